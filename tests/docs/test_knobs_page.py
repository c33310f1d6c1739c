"""The page of the knobs is the one that the schema and the configurations give."""

import importlib.util

import pytest
from conftest import BUNDLE, ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("knobs_page", ROOT / ".ci" / "knobs_page.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_is_up_to_date(script):
    assert script.page() == (BUNDLE / "docs" / "knobs.md").read_text(), "run python .ci/knobs_page.py"


def test_every_knob_has_a_row(script):
    from scripts.run.knobs import rules

    assert all(f"| `{name}` | {rule['description']} |" in script.page() for name, rule in rules().items())


def test_a_row_names_the_values_of_every_configuration(script):
    rule = {"description": "X.", "type": "integer", "minimum": 1}
    contents = {"train": {"a": 3}, "inference": {"a": 4}, "demo": {"a": 5}, "strong": {}}
    assert script.row("a", rule, contents) == [
        "`a`", "X.", "a whole number from 1", "`3`<br>inference: `4`", "demo: `5`"
    ]  # fmt: skip
