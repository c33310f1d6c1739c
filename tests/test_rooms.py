"""The rooms of `bundle/scripts`: a room imports only rooms on lower floors, and no circle is in any of them."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import BUNDLE, ROOT

SCRIPTS = BUNDLE / "scripts"
FLOORS = {
    "core": 1,
    "networks": 2, "run": 2, "series": 2,
    "data": 3, "phantoms": 3,
    "check": 4, "dicom": 4,
    "plan": 5, "training": 5,
    "doubt": 6,
    "report": 7,
    "weeks": 8,
    "inference": 9, "study": 9,
    "next": 10,
}  # fmt: skip
ALIASES = {"calibrate.py", "datalist.py", "phantom.py"}  # names of commands whose room is called otherwise


def modules(folder: Path = SCRIPTS) -> dict[str, set[str]]:
    """What every module of the rooms imports of the others: `report.page` and the like, also inside functions."""
    files = {".".join(file.relative_to(folder).with_suffix("").parts): file for file in folder.glob("*/*.py")}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                paths = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file}: a relative import"
                paths = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            parts = (path.removeprefix("scripts.") for path in paths if path.startswith("scripts."))
            found[name] |= {part for part in parts if part in files}
    return found


def upward(imports: dict[str, set[str]]) -> list[str]:
    """Imports that lead to a room on the same floor or a higher one."""
    room = {name: name.split(".")[0] for name in {*imports, *(used for of in imports.values() for used in of)}}
    return [
        f"{name} imports {used}"
        for name, uses in sorted(imports.items())
        for used in sorted(uses)
        if room[name] != room[used] and FLOORS[room[used]] >= FLOORS[room[name]]
    ]


def circle(imports: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_lead_down():
    assert upward(modules()) == []


def test_the_package_says_which_room_is_on_which_floor():
    text = ast.get_docstring(ast.parse((SCRIPTS / "__init__.py").read_text(encoding="utf-8")))
    lines = [line.split(maxsplit=2) for line in text.splitlines() if line.startswith("floor ")]
    assert {room: int(floor) for _, floor, rooms in lines for room in rooms.split(", ")} == FLOORS
    commands = {file.parent.name for file in SCRIPTS.glob("*/__main__.py")}
    named = (
        text.partition("command line for ")[2].rstrip(".").replace(" and\n", ", ").replace(" and ", ", ").split(", ")
    )
    assert set(named) == commands - {"data", "doubt", "phantoms"} | {file.removesuffix(".py") for file in ALIASES}


def test_there_is_no_circle():
    assert circle(modules()) == []


@pytest.mark.parametrize(
    "imports, wrong",
    [
        ({"core.files": {"data.layouts"}}, ["core.files imports data.layouts"]),
        ({"series.index": {"networks.unet"}}, ["series.index imports networks.unet"]),
        ({"report.page": {"report.tables", "core.files"}}, []),
    ],
)
def test_an_import_that_leads_up_is_seen(imports, wrong):
    assert upward(imports) == wrong


def test_a_circle_is_seen():
    assert set(circle({"data.a": {"data.b"}, "data.b": {"data.a"}})) == {"data.a", "data.b"}


def test_every_room_says_what_lives_there():
    rooms = {folder.name for folder in SCRIPTS.iterdir() if any(folder.glob("*.py"))}
    assert rooms == set(FLOORS)
    for room in rooms:
        text = ast.get_docstring(ast.parse((SCRIPTS / room / "__init__.py").read_text(encoding="utf-8")))
        assert text and len(text) > 60 and "\n\n" not in text, room


def test_nothing_lies_outside_the_rooms():
    assert {file.name for file in SCRIPTS.glob("*.py")} == {"__init__.py", *ALIASES}


def test_the_tests_mirror_the_rooms():
    of_rooms = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.glob("test_*.py"))}
    assert set(FLOORS) <= of_rooms
