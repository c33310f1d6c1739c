"""What the shipped configurations may execute: a list that is kept here, so that a change of it is seen."""

import ast
import json
import re

import pytest
import yaml
from conftest import BUNDLE, CONFIGS, ROOT

IMPORTS = {"os", "sys", "numpy", "torch.distributed as dist", "ignite.distributed as idist"}
CALLS = {  # everything that an expression of a configuration calls
    "int", "len", "min", "enumerate", "type",
    "os.cpu_count", "sys.stderr.isatty",
    "torch.device", "torch.cuda.is_available", "torch.cuda.set_device",
    "dist.get_rank", "dist.is_initialized", "dist.init_process_group", "dist.destroy_process_group", "idist.sync",
    "monai.utils.set_determinism", "monai.handlers.from_engine",
    "_.to", "_.parameters", "_.run", "_.begin", "_.leave", "part.attach",
}  # fmt: skip
TARGETS = re.compile(  # own scripts, MONAI's components by their short names, and these parts of torch and ignite
    r"scripts\.\w+\.\w+|[A-Z]\w+|torch\.optim\.Adam|torch\.optim\.lr_scheduler\.ExponentialLR"
    r"|torch\.nn\.parallel\.DistributedDataParallel|ignite\.handlers\.ProgressBar"
)
FILES = sorted(CONFIGS.glob("*.json"))


def walk(node):
    """Every key with its text, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from ((key, value),) if isinstance(value, str) else walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from (("", value),) if isinstance(value, str) else walk(value)


def expressions(file) -> list[str]:
    """What MONAI evaluates, references replaced by a name."""
    content = json.loads(file.read_text())
    texts = [text for _, text in walk({k: v for k, v in content.items() if k != "imports"}) if text.startswith("$")]
    return [re.sub(r"[@%][\w:]+", "_", text[1:]) for text in texts]


def name(node) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "_"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_calls_and_imports(file):
    imports = json.loads(file.read_text()).get("imports", [])
    assert {text.removeprefix("$import ") for text in imports} <= IMPORTS
    for text in expressions(file):
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
        called = {name(node.func) for node in nodes if isinstance(node, ast.Call)}
        assert called <= CALLS, f"{file.name}: {text} calls {called - CALLS}"
        assert not [node for node in nodes if isinstance(node, ast.Lambda | ast.Await | ast.NamedExpr)], text
        hidden = [node.attr for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("__")]
        assert hidden in ([], ["__name__"]), text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_targets(file):
    targets = [text for key, text in walk(json.loads(file.read_text())) if key == "_target_"]
    assert all(TARGETS.fullmatch(target) for target in targets), targets


def test_the_list_holds_nothing_that_is_not_used():
    used = {
        name(node.func)
        for file in FILES
        for text in expressions(file)
        for node in ast.walk(ast.parse(text, mode="eval"))
        if isinstance(node, ast.Call)
    }
    assert used == CALLS


def test_logging_conf_holds_classes_of_logging_alone():
    text = (CONFIGS / "logging.conf").read_text()
    assert set(re.findall(r"^class\s*=\s*(\S+)", text, re.MULTILINE)) <= {"StreamHandler"}
    assert set(re.findall(r"^args\s*=\s*(\S+)", text, re.MULTILINE)) <= {"(sys.stdout,)", "(sys.stderr,)"}


def test_every_download_has_a_sha256():
    listed = yaml.safe_load((BUNDLE / "large_files.yml").read_text())["large_files"]
    assert all(entry["hash_type"] == "sha256" and len(entry["hash_val"]) == 64 for entry in listed)


def test_security_policy_names_what_runs():
    text = (ROOT / "SECURITY.md").read_text()
    assert "esearch use only" in text and "weights_only=True" in text and len(text.splitlines()) < 40
