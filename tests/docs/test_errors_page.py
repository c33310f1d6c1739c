"""Every message that the page of errors quotes is one that the scripts, or MONAI and Python, really print."""

import ast
import re

import pytest
from conftest import BUNDLE

from scripts.run.knobs import in_words, rules

PAGE = BUNDLE / "docs" / "reference" / "errors.md"
OTHERS = {  # words of MONAI and of Python, as a run from the wrong folder or environment prints them
    "Cannot find the config file: configs/train.json.",
    "Cannot locate class or function path: 'scripts.run.command_line.check_command_line'.",
    "No module named 'scripts'",
    "No module named 'monai'",
}


def texts_in(source: str) -> set[str]:
    """The texts of a script, less its docstrings; what is filled in at run time is `...`."""
    nodes, found = list(ast.walk(ast.parse(source))), set()
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            found.add("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            found.add(node.value)
    return found


def occurs(fragment: str, texts: set[str]) -> bool:
    pattern = re.compile(".*".join(map(re.escape, fragment.split("..."))), re.DOTALL)
    return any(pattern.search(text) for text in texts)


def rows() -> list[str]:
    """The first column of the page's tables, without their headings."""
    cells = re.findall(r"^\| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return [cell for cell in cells if cell != "message has"]


FRAGMENTS = [fragment for row in rows() for fragment in re.findall(r"`([^`]+)`", row)]


@pytest.fixture(scope="module")
def texts() -> set[str]:
    found = OTHERS.union(*(texts_in(file.read_text()) for file in BUNDLE.glob("scripts/**/*.py")))
    return found | {f"expected {in_words(rule)}" for rule in rules().values()}


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_quoted_message_is_printed(fragment, texts):
    assert occurs(fragment, texts)


def test_every_row_quotes_a_message():
    assert len(rows()) > 30 and all(row.startswith("`") for row in rows())


def test_a_message_that_nobody_prints_is_noticed(texts):
    assert not occurs("of another run", texts) and not occurs("found label ...; expected 1 to", texts)
    assert occurs("belongs to a run with", texts_in('raise UserError(f"{file}: belongs to a run " f"with {x}")'))
    assert not occurs("a docstring", texts_in('def f():\n    """a docstring"""'))
