"""The command lines: their help, and an error that ends one of them."""

import runpy
import sys

import pytest

from scripts.core.commands import run_command
from scripts.core.errors import UserError

COMMANDS = {  # name: what a first call needs
    "scripts.check": ["--dataset_dir"],
    "scripts.datalist": ["--dataset_dir", "--output"],
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
