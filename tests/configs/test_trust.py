"""What the shipped configurations may execute: a list that is kept here, so that a change of it is seen."""

import ast
import json
import re
import shutil

import pytest
import yaml
from conftest import BUNDLE, CONFIGS, ROOT, run
from monai.bundle import ConfigWorkflow

from scripts.core.errors import UserError

IMPORTS = {"inspect", "os", "sys", "numpy", "torch.distributed as dist", "ignite.distributed as idist"}
CALLS = {  # everything that an expression of a configuration calls
    "getattr", "int", "isinstance", "len", "min", "max", "next", "round", "enumerate", "str",
    "os.cpu_count", "sys.stderr.isatty",
    "inspect.stack", "c.frame.f_locals.get", "sys.modules.get", "sys.path.insert", "_.append",  # where scripts is
    "torch.device", "torch.cuda.is_available", "torch.cuda.set_device",
    "dist.is_initialized", "dist.barrier", "dist.init_process_group", "dist.destroy_process_group",
    "idist.sync",
    "monai.utils.set_determinism", "monai.handlers.from_engine",
    "_.to", "_.parameters", "_.check", "_.run", "_.begin", "_.exit_with_status", "part.attach",
}  # fmt: skip
TARGETS = re.compile(  # own scripts, MONAI's components by their short names, and these parts of torch and ignite
    r"scripts\.\w+\.\w+\.\w+|[A-Z]\w+|torch\.optim\.AdamW?|torch\.optim\.lr_scheduler\.ExponentialLR"
    r"|torch\.utils\.data\.ConcatDataset|torch\.nn\.parallel\.DistributedDataParallel|ignite\.handlers\.(ProgressBar|EMAHandler)"
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
def test_a_patch_imports_what_its_base_does(file):
    """Its list takes the place of the base's. Without `inspect` no run finds the bundle's own folder."""
    imports = json.loads(file.read_text()).get("imports")
    base = json.loads((CONFIGS / ("inference.json" if "inference" in file.name else "train.json")).read_text())[
        "imports"
    ]
    assert imports is None or set(imports) >= set(base)


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


HOSTILE_LOGGING = {
    "arguments": "class=StreamHandler\nargs=(__import__('os').mkdir({trace!r}),)",
    "keyword arguments": "class=StreamHandler\nargs=()\nkwargs=dict(stream=__import__('os').mkdir({trace!r}))",
    "class": "class=eval(\"__import__('os').mkdir({trace!r})\")\nargs=()",
    "another module": "class=os.mkdir\nargs=({trace!r},)",
    "a file elsewhere": "class=FileHandler\nargs=(open({trace!r}, 'w').name,)",
}


@pytest.mark.parametrize("kind", HOSTILE_LOGGING)
def test_a_logging_conf_runs_no_code(kind, phantoms, tmp_path):
    trace, file = str(tmp_path / "trace"), tmp_path / "logging.conf"
    sections = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=h\n"
    file.write_text(f"{sections}[handler_h]\n{HOSTILE_LOGGING[kind].format(trace=trace)}\n")
    with pytest.raises(Exception, match="(?i)logging|class|arg"):
        ConfigWorkflow(str(CONFIGS / "inference.json"), workflow_type="infer", logging_file=str(file))
    assert not (tmp_path / "trace").exists()


def test_paths_that_lead_upwards_write_nothing_outside(phantoms, tmp_path):
    """In a data list, in the name of a file, and in the run.json that a resumed run goes by."""
    run("train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path / "t", ckpt_dir=tmp_path / "t", epochs=1)
    image = next(phantoms.rglob("Case_004_Week0_LFOV.nii.gz"))
    far = tmp_path / "far" / "away"
    far.mkdir(parents=True)
    for name in ("..x.nii.gz", "a..nii.gz", "%2e%2e%2fb.nii.gz", "$(touch c).nii.gz"):
        shutil.copy(image, far / name)
    listed = {"test": [f"../far/away/{file.name}" for file in sorted(far.iterdir())], "training": [], "validation": []}
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.json").write_text(json.dumps(listed))
    before = {path for path in tmp_path.rglob("*")}
    given = {
        "dataset_dir": tmp_path / "lists" / "list.json",
        "output_dir": tmp_path / "out",
        "ckpt_dir": tmp_path / "t",
    }
    run("infer", ["inference.json"], **given)
    noted = json.loads((tmp_path / "out" / "run.json").read_text())
    for case in noted["cases"]:
        case["output"] = "../lists/list.json"
    (tmp_path / "out" / "run.json").write_text(json.dumps(noted))
    with pytest.raises(UserError, match="4 of 4 cases failed"):
        run("infer", ["inference.json"], **given, resume=True)
    outside = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in (path, *path.parents)}
    assert outside == before
    assert len(list((tmp_path / "out").glob("*_seg.nii.gz"))) == 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_key_is_written_twice(file):
    """JSON keeps the last one without a word; MONAI warns at every start, or refuses the file."""

    def once(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), sorted(key for key in set(keys) if keys.count(key) > 1)
        return dict(pairs)

    json.loads(file.read_text(), object_pairs_hook=once)
