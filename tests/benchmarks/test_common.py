"""What the command lines of several scripts refuse in one line."""

import importlib
import sys

import pytest
from conftest import ROOT
from helpers import stubs


@pytest.mark.parametrize(
    "name, words, said",
    [
        ("lgg", ["nowhere"], "data: nowhere: no such file or folder; correct the path"),
        ("hippocampus", ["."], "data: .: found no folds.json; bundle/docs/hippocampus.md tells how to make it"),
        ("hippocampus", ["DATA", "--set", "epochs"], "--set: epochs: expected NAME=VALUE"),
        ("runtimes", ["mine", "nothing", ".", "."], "patch: nothing: no such recipe, expected one of recipe_cardiac"),
        ("networks", ["nothing"], "nothing: expected one of unet_32"),
    ],
)
def test_what_is_not_there_takes_one_line(name, words, said, tmp_path, monkeypatch, capsys):
    stubs(tmp_path / "DATA", ["folds.json"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    with pytest.raises(SystemExit):
        script.main()
    assert said in capsys.readouterr().err.splitlines()[-1]
