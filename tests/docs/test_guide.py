"""Every link, picture, file and command of the documents leads somewhere."""

import importlib
import inspect
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import monai.bundle
import pytest
import yaml
from conftest import BUNDLE, CONFIGS, ROOT

from scripts.check.dataset import main as check
from scripts.core.errors import UserError
from scripts.data.command import main as datalist
from scripts.dicom.commands import export, list_series
from scripts.dicom.importing import import_structures
from scripts.doubt.command import main as calibrate
from scripts.next.command import main as label_next
from scripts.phantoms.generate import generate
from scripts.plan.command import main as plan
from scripts.report.commands import code, compare, evaluate, view
from scripts.report.viewer import INSTALL
from scripts.run.command_line import known_ids, refuse_unknown_ids, refuse_unused_ids
from scripts.study.command import main as study
from scripts.weeks.command import main as weeks

DOCS = BUNDLE / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")), *PAGES]
OTHERS = [ROOT / "mkdocs.yml", BUNDLE / "large_files.yml", BUNDLE / "models" / "README.md", DOCS / "data_license.txt"]
TOOLS = {
    "scripts.calibrate": calibrate,
    "scripts.check": check,
    "scripts.datalist": datalist,
    "scripts.next": label_next,
    "scripts.phantom": generate,
    "scripts.report evaluate": evaluate,
    "scripts.report compare": compare,
    "scripts.report code": code,
    "scripts.report view": view,
    "scripts.study": study,
    "scripts.dicom list": list_series,
    "scripts.dicom export": export,
    "scripts.dicom import": import_structures,
    "scripts.plan": plan,
    "scripts.weeks": weeks,
}
FOLDERS = ("benchmarks", "integration", ".ci")  # of scripts
COMMON = ROOT / "integration" / "common.py"  # has options that all scripts there share
LAUNCHER = {"nproc_per_node", "nnodes", "node_rank", "rdzv_id", "rdzv_backend", "rdzv_endpoint"}  # of torchrun
EXAMPLES = {"configs/kidney.json", "bias_probability", "scripts.networks.my_network.MyNetwork"}  # that readers write


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


every_document = pytest.mark.parametrize("file", DOCUMENTS, ids=named)


def prose(text: str) -> str:
    """Without blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """As forges and the site make them of headings: lower case, no punctuation, a hyphen for a space."""
    headings = re.findall(r"^#+ +(.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links and pictures that lead nowhere."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path if path else None
        if file and not file.is_file():
            found.append(target)
        elif anchor and anchor not in anchors(file.read_text() if file else text):
            found.append(target)
    return found


def commands(text: str) -> list[list[str]]:
    """The command lines of a text's blocks, as lists of words; all that is in such a block can be typed."""
    lines = [line for block in blocks(text, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def options(words: list[str]) -> set[str]:
    return {word[2:].split("=")[0] for word in words if word.startswith("--")}


def faults(words: list[str]) -> list[str]:
    """What is wrong with a command line: files that aren't there, ids and options that nobody knows."""
    line = " ".join(words)
    found = [f"no {path}" for path in re.findall(r"configs/\w+\.json", line) if not is_config(path)]
    for file, name in re.findall(r"%configs/(\w+)\.json::(\w+)", line):
        found += [] if name in json.loads((CONFIGS / f"{file}.json").read_text()) else [f"no {name} in {file}"]
    if words[0] == "make":
        found += [f"no target {word}" for word in words[1:] if "=" not in word and word not in targets()]
    elif "monai.bundle" in words:
        found += bundle_faults(words[words.index("monai.bundle") + 1 :])
        found += [f"--{name}" for name in options(words[: words.index("monai.bundle")]) - LAUNCHER]
    elif tool := next((name for name in TOOLS if f"-m {name} " in f"{line} "), None):
        parameters = inspect.signature(TOOLS[tool]).parameters
        passed_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        unknown = options(words) - set(parameters)
        found += unknown_ids(unknown) if passed_on else [f"--{name}" for name in sorted(unknown)]
    elif script := re.search(r"python(?:3\.\d+)? ((?:benchmarks|integration|\.ci)/\w+\.py)", line):
        source = (ROOT / script[1]).read_text() if (ROOT / script[1]).is_file() else ""
        source += COMMON.read_text() if script[1].startswith("integration") and source else ""
        found += [] if source else [f"no {script[1]}"]
        found += [f"--{name}" for name in sorted(options(words)) if f'"--{name}"' not in source]
    elif not INSTALL.endswith(line) and not re.match(
        r"pip install -r \.\./requirements\.txt$|git clone |cd |source \.venv/bin/activate$", line
    ):
        found.append(f"not a command that is known: {line}")
    return found


def bundle_faults(words: list[str]) -> list[str]:
    """Of `python -m monai.bundle ...`."""
    verb, name, *rest = words
    if verb != "run":
        allowed = inspect.signature(getattr(monai.bundle, verb)).parameters
        return [f"--{option}" for option in sorted(options(rest) - set(allowed))]
    files = re.findall(r"[\w/.]+\.json", " ".join(rest[: rest.index("--config_file") + 2]))
    shipped = [BUNDLE / file for file in files if (BUNDLE / file).is_file()]
    made = {key for file in shipped for key in json.loads(file.read_text())}
    return ([] if name in made else [f"nothing to run under {name}"]) + unknown_ids(
        options(rest), shipped if len(shipped) == len(files) else ()
    )


def unknown_ids(names: set[str], files: Sequence[Path] = ()) -> list[str]:
    """The first id that nobody knows, or that none of the files uses, if they are known."""
    words = ["run", *(f"--{name}" for name in sorted(names - {"config_file"}))]
    try:
        refuse_unknown_ids(words)
        if files:
            refuse_unused_ids([*words, "--config_file", str([str(file) for file in files])])
    except UserError as error:
        return [str(error)]
    return []


def is_config(path: str) -> bool:
    return path in EXAMPLES or (BUNDLE / path).is_file()


def unknown_names(text: str) -> list[str]:
    """Dotted names below `scripts`, and paths, where there is no such thing."""
    dotted = set(re.findall(r"(?<![\w./])scripts(?:\.[A-Za-z_]\w*)+", text)) - EXAMPLES
    folders = r"(?:bundle|benchmarks|integration|scripts|tests|configs|docs|\.ci)/|models/(?=hippocampus)"
    found = re.findall(rf"(?<![\w./-])((?:{folders})[\w./-]*)(?![\w*])", text)
    paths = {path.rstrip(".") for path in found} - EXAMPLES - {"bundle/models/model.pt"}  # which a training writes
    missing = [path for path in paths if not any((place / path).exists() for place in (ROOT, BUNDLE))]
    return sorted(name for name in dotted if not resolves(name)) + sorted(missing)


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@every_document
def test_links_and_pictures_lead_somewhere(file):
    assert broken_links(file.read_text(), file.parent) == []


@every_document
def test_commands_can_be_typed(file):
    wrong = {" ".join(words): found for words in commands(file.read_text()) if (found := faults(words))}
    assert wrong == {}


@every_document
def test_files_that_are_named_exist(file):
    text = file.read_text()
    for path in re.findall(r"`((?:bundle|configs|benchmarks|integration|tests|scripts|\.ci)/[\w./]*)`", text):
        assert (ROOT / path).exists() or (BUNDLE / path).exists(), path
    for name in re.findall(r"`(\w+\.py)`", text):
        assert name == "__init__.py" or (ROOT / "benchmarks" / name).is_file(), name


@pytest.mark.parametrize("file", [*DOCUMENTS, *OTHERS], ids=named)
def test_names_of_code_and_paths_exist(file):
    assert unknown_names(file.read_text()) == []


@every_document
def test_targets_of_make_that_are_named_exist(file):
    named = set(re.findall(r"`make ([\w-]+)`", file.read_text()))
    assert named - targets() == set()


@every_document
def test_options_that_are_named_exist(file):
    """In the text; those of commands are held to their own command."""
    known = known_ids()[0] | LAUNCHER
    functions = [*TOOLS.values(), monai.bundle.run, monai.bundle.download]
    known |= {name for function in functions for name in inspect.signature(function).parameters}
    sources = "".join(script.read_text() for folder in FOLDERS for script in (ROOT / folder).glob("*.py"))
    known |= set(re.findall(r'"--(\w+)"', sources))
    named = set(re.findall(r"(?<![-\w|])--([a-z]\w*)(?!\w)", prose(file.read_text())))
    assert named - known - EXAMPLES - {"help", "id", "strict"} == set()


@every_document
def test_documents_speak_of_nothing_but_the_project(file):
    text = file.read_text()
    assert not re.search(r"(?<![\w./:-])/(?:home|work|tmp|root|opt|Users)/", text)
    assert "TODO" not in text and "FIXME" not in text


def test_every_page_is_in_the_navigation_once():
    listed = re.findall(r"[\w/-]+\.md", json.dumps(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_the_site_is_built_from_the_guide_and_asks_nobody():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["docs_dir"] == "bundle/docs" and settings["site_dir"] == "site"
    assert settings["theme"]["font"] is False and "*.json" in settings["exclude_docs"]
    assert not re.search(r"https?://", (ROOT / "mkdocs.yml").read_text())


def linked(file: Path) -> set[Path]:
    """The files that a document leads to."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(file.read_text()))
    return {(file.parent / link).resolve() for link in links if not link.startswith("http")}


def test_every_page_can_be_reached_from_the_readme_in_two_steps():
    start = DOCS / "getting-started.md"
    assert start in linked(ROOT / "README.md") and set(PAGES) - {start} <= linked(start)


BROKEN = {
    "python -m monai.bundle run training --config_file configs/trian.json": "no configs/trian.json",
    "python -m monai.bundle run evaluating --config_file configs/train.json": "nothing to run under evaluating",
    "python -m monai.bundle run training --config_file configs/train.json --epoch 3": "--epoch",
    "python -m monai.bundle ckpt_export network_def --file x": "--file",
    "python -m scripts.check --dataset DIR": "--dataset",
    "python -m scripts.study --learning_rat 1 --output_dir DIR": "--learning_rat",
    "python benchmarks/recipe.py": "no benchmarks/recipe.py",
    "python benchmarks/recipes.py --nothing": "--nothing",
    "make dmeo": "no target dmeo",
    "python -m monai.bundle run training --config_file configs/train.json --loss %configs/losses.json::dise": "no dise",
    "run evaluating --config_file configs/train.json": "not a command",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_wrong_command_is_noticed(line):
    words = shlex.split(line)
    assert any(BROKEN[line] in fault for fault in faults(words)), faults(words)


def test_a_wrong_link_is_noticed():
    text = "# A b\n[x](README.md) [y](nowhere.md) [z](#a-b) [w](#a-c) ![p](no.png) [v](README.md#nothing)\n"
    assert broken_links(text, ROOT) == ["nowhere.md", "#a-c", "no.png", "README.md#nothing"]


def test_a_wrong_name_is_noticed():
    text = "`scripts.core.errors.UserEror` scripts.core.errors.UserError, scripts.weights; `scripts/data/no.py` and\n"
    text += "scripts/data/slices.py, `tests/docs/`, models/hippocampus.pt, models/hippocampus.json."
    wrong = ["scripts.core.errors.UserEror", "scripts.weights", "models/hippocampus.pt", "scripts/data/no.py"]
    assert unknown_names(text) == wrong
