"""The command lines: their help, and an error that ends one of them."""

import inspect
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence

import pytest
from conftest import BUNDLE

from scripts.core import commands
from scripts.core.commands import each, load, of_type, outline, run_command
from scripts.core.errors import UserError

COMMANDS = {  # name: what a first call needs
    "scripts.calibrate": ["--runs"],
    "scripts.check": ["--dataset_dir"],
    "scripts.datalist": ["--dataset_dir", "--output"],
    "scripts.next": ["--dataset_dir", "--count"],
    "scripts.phantom": ["--output_dir"],
    "scripts.study": ["--space", "--output_dir", "--dataset_dir"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_an_example_and_the_name_of_the_command(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--help"])
    monkeypatch.setenv("PAGER", "cat")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(command, run_name="__main__")
    said = "".join(capsys.readouterr())
    (example,) = [line for line in said.splitlines() if "Example: " in line]
    assert caught.value.code == 0
    assert f"python -m {command} " in example and all(f"{option} " in example for option in COMMANDS[command])
    assert f"\n    {command} " in said and "__main__.py" not in said


MODULES = [f"scripts.{file.parent.name}" for file in sorted(BUNDLE.glob("scripts/*/__main__.py"))]


def test_a_command_is_described_as_it_is(monkeypatch):
    """The help comes from the text of a module, which is not imported for it."""
    given: list = []
    monkeypatch.setattr(commands, "run_command", lambda component, *_, **__: given.append(component))
    for module in MODULES:
        runpy.run_module(module, run_name="__main__")
    assert len(given) == len(MODULES) == 10
    for component in given:
        described, real = (each(component, call) for call in (outline, load))
        if not isinstance(described, dict):
            described, real = {"": described}, {"": real}
        for name, call in described.items():
            assert inspect.getdoc(call) == inspect.getdoc(real[name])
            assert inspect.signature(call) == inspect.signature(real[name])


@pytest.mark.programs
def test_the_help_waits_for_no_large_library():
    """Torch and MONAI take five to ten seconds to import."""
    for name in MODULES:
        lines = f"""
import runpy, sys
sys.argv = ["x", "--help"]
try:
    runpy.run_module({name!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("slow:", *{{"torch", "monai", "numpy", "ignite", "pandas"}} & {{*sys.modules}})
"""
        done = subprocess.run(
            [sys.executable, "-c", lines], cwd=BUNDLE, env={"PAGER": "cat"}, capture_output=True, text=True
        )
        assert done.stdout.endswith("slow:\n") and not done.returncode, (name, done.stdout[-300:], done.stderr[-300:])


def test_a_mistake_is_one_line_and_another_error_is_not_hidden(monkeypatch):
    def fail(kind: str) -> None:
        raise {"user": UserError, "other": ValueError}[kind]("x is 1, expected 2")

    monkeypatch.setattr(sys, "argv", ["command", "user"])
    with pytest.raises(SystemExit) as caught:
        run_command(fail)
    assert caught.value.code == "x is 1, expected 2"
    monkeypatch.setattr(sys, "argv", ["command", "other"])
    with pytest.raises(ValueError, match="x is 1"):
        run_command(fail)
    monkeypatch.setattr(sys, "argv", ["command", __file__])
    with pytest.raises(SystemExit) as caught:
        run_command(lambda folder: os.makedirs(folder))
    assert caught.value.code.startswith(f"{__file__}: File exists; name another")


@pytest.mark.parametrize(
    "command, arguments, nearest",
    [
        ("scripts.check", ["--dataset_dir", "x", "--class_name", "['a','b']"], "class_names"),
        ("scripts.check", ["--data-dir=x"], "dataset_dir"),
        ("scripts.report", ["evaluate", "--truth", "x", "--predictions", "x"], "prediction"),
        ("scripts.datalist", ["--outputs", "x"], "output"),
    ],
)
def test_a_misspelled_option_is_rejected_before_anything_runs(command, arguments, nearest, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["__main__.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(command, run_name="__main__")
    assert caught.value.code.endswith(f"the command has no such option; did you mean --{nearest}?")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command, arguments, message",
    [
        ("scripts.check", ["x", "--output_dir", "--fresh"], "--output_dir: found no value, expected text"),
        ("scripts.check", ["x", "--workers", "two"], "--workers: found 'two', expected a whole number"),
        ("scripts.check", ["x", "--workers", "True"], "--workers: found no value, expected a whole number"),
        ("scripts.check", ["x", "--fresh", "yes"], "--fresh: found 'yes', expected True or False"),
        ("scripts.check", ["x", "--class_names", "3"], "--class_names: found 3, expected a list"),
        ("scripts.datalist", ["x", "y.json", "--folds", "2.5"], "--folds: found 2.5, expected a whole number"),
        ("scripts.plan", ["x", "--minutes", "long"], "--minutes: found 'long', expected a number"),
        ("scripts.phantom", ["--output_dir"], "--output_dir: found no value, expected text"),
        ("scripts.phantom", ["x", "--patients", "2.5"], "--patients: found 2.5, expected a whole number"),
        ("scripts.phantom", ["x", "--scans"], "--scans: found no value, expected a whole number"),
        ("scripts.phantom", ["x", "--size", "64"], "--size: found 64, expected a list"),
        ("scripts.report", ["compare", "a", "True", "--output_dir", "y"], "runs: found no value, expected text"),
    ],
)
def test_a_value_of_another_type_is_rejected_before_anything_runs(command, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["__main__.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(command, run_name="__main__")
    assert caught.value.code == message
    assert not list(tmp_path.iterdir())


def test_a_value_becomes_what_the_command_wants():
    assert of_type(2024, str, "--output_dir") == "2024"
    assert of_type(2024, str | Sequence[str], "--runs") == "2024"
    assert of_type(3, float, "--minutes") == 3 and of_type(None, str | None, "--images") is None
    assert of_type("rtstruct", Sequence[str], "--formats") == ["rtstruct"]
    assert of_type(("a", "b"), Sequence[str] | None, "--formats") == ["a", "b"]
    assert of_type({"a": "b"}, Mapping[str, str] | None, "--names") == {"a": "b"}
    assert of_type(True, bool | str, "--anonymise") is True


def test_a_name_that_looks_like_a_number_stays_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["__main__.py", "x", "--output_dir", "2024.10", "--word=1e3"])
    assert (of_type(2024.1, str, "--output_dir"), of_type(1000.0, str, "--word")) == ("2024.10", "1e3")


@pytest.mark.parametrize(
    "command",
    [("scripts.check", "x"), ("scripts.weeks", "x"), ("scripts.phantom",), ("scripts.report", "compare", "a", "b")],
)
def test_a_file_is_no_folder_to_write_to(command, monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(sys, "argv", ["__main__.py", *command[1:], "--output_dir", str(file / "deeper")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(command[0], run_name="__main__")
    assert caught.value.code == f"{file}: --output_dir is a file, expected a folder; name another one"


def test_right_options_are_taken(monkeypatch, capsys):
    def command(first: int, second: bool = True) -> None:
        print(first, second)

    for arguments in (["1"], ["--first", "1"], ["--first=1", "--second", "True"]):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        run_command(command)
    monkeypatch.setattr(sys, "argv", ["command", "--first", "-1", "--nosecond"])
    run_command(command)
    assert capsys.readouterr().out.split() == ["1", "True"] * 3 + ["-1", "False"]
