"""The short runs of all recipes: their commands, what they remember, and the table."""

import importlib.util
import json
import shlex
import sys

import pytest
from conftest import BUNDLE, CONFIGS, ROOT


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """The script, in an empty folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("recipes", ROOT / "benchmarks" / "recipes.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipes", script)  # dataclasses look there
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "DEMO", tmp_path / "demo")
    monkeypatch.setattr(script, "HERE", tmp_path / "demo" / "recipes")
    return script


def read(name: str) -> dict:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def leave_results(script, folder, dice: float) -> None:
    """The files that a trained, scored recipe leaves."""
    (folder / "run").mkdir(parents=True)
    (folder / "predictions").mkdir()
    about = [["Model", "UNet, 1,234 parameters"], ["Versions", "-"], ["Device", "CPU"]]
    total = {"mean": dice, "ci": [dice - 0.01, dice + 0.01], "patients": 3, "n": 6}
    (folder / "run" / "metrics.json").write_text(json.dumps({"about": about, "foreground": total, "classes": {}}))
    (folder / "run" / "history.csv").write_text("epoch,seconds\n1,40.0\n2,20.0\n")
    cases = [{"seconds": seconds} for seconds in (0.1, 0.2, 0.9)]
    (folder / "predictions" / "metrics.json").write_text(json.dumps({"metric_per_case": cases}))


def test_every_recipe_has_its_short_run(recipes):
    assert set(recipes.RECIPES) == {file.stem for file in CONFIGS.glob("recipe_*.json")}


def test_commands_name_files_and_knobs_that_exist(recipes):
    known = set().union(*(read(name) for name in ("train", "evaluate", "inference")))
    for name, recipe in recipes.RECIPES.items():
        made = recipes.commands(name)
        assert set(recipe.network) <= set(read(name)) | set(read("train")) and "--seed 0" in made["make phantoms"]
        for step in ("train", "evaluate", "infer"):
            words = shlex.split(made[step])
            listed = json.loads(words[words.index("--config_file") + 1].replace("'", '"'))
            assert listed[-1] == f"configs/{name}.json" and all((BUNDLE / file).is_file() for file in listed)
            knobs = {word[2:] for word in words if word.startswith("--")} - {"config_file"}
            assert knobs <= known | set(read(name)), (name, step)
            assert all(f"--{key}" in words for key in recipe.network)


def test_what_is_done_is_not_done_again_and_what_changed_is(recipes, monkeypatch):
    ran = []
    monkeypatch.setattr(recipes, "execute", lambda title, command: ran.append(title.split(": ")[1]) or True)
    assert recipes.work("recipe_lgg_2d") is None and recipes.work("recipe_lgg_2d") is None
    assert ran == ["make phantoms", "train", "evaluate", "infer", "evaluate", "infer"]
    recipes.RECIPES["recipe_lgg_2d"].training["epochs"] += 1
    recipes.work("recipe_lgg_2d")
    assert ran[6:] == ran[:4]


def test_a_failure_is_named_and_nothing_follows_it(recipes, monkeypatch):
    monkeypatch.setattr(recipes, "execute", lambda title, command: "run training" not in command)
    assert recipes.work("recipe_lgg_2d") == "train"
    assert sorted(file.name for file in (recipes.HERE / "recipe_lgg_2d").iterdir()) == ["phantoms.done", "settings.txt"]


@pytest.mark.parametrize("dice, status", [(0.81, 0), (0.79, 1)])
def test_table_and_status(recipes, monkeypatch, capsys, dice, status):
    leave_results(recipes, recipes.HERE / "recipe_lgg_2d", dice)
    leave_results(recipes, recipes.DEMO, 0.5)
    monkeypatch.setattr(recipes, "work", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["recipes.py", "recipe_lgg_2d"])
    with pytest.raises(SystemExit) as left:
        recipes.main()
    assert int(left.value.code) == status
    demo, row = json.loads((recipes.HERE / "recipes.json").read_text())["rows"]
    assert (row["dice"], row["parameters"], row["epochs"], row["training_seconds"]) == (dice, 1234, 2, 60)
    assert row["seconds_a_case"] == 0.2 and demo["dice"] == 0.5 and demo["report"] == "demo/run"
    text = (recipes.HERE / "recipes.md").read_text()
    assert text in capsys.readouterr().out and ("below 0.8) | 0.780 to 0.800" in text) == (status == 1)


def test_a_failed_recipe_has_a_row_and_status_1(recipes, monkeypatch, capsys):
    monkeypatch.setattr(recipes, "work", lambda name: "infer")
    monkeypatch.setattr(sys, "argv", ["recipes.py", "recipe_lgg_2d"])
    leave_results(recipes, recipes.HERE / "recipe_lgg_2d", 0.9)
    with pytest.raises(SystemExit) as left:
        recipes.main()
    assert left.value.code and "failed: infer" in capsys.readouterr().out


def test_a_command_that_was_stopped_stops_all(recipes, capsys):
    assert recipes.execute("-", "python -c pass") and not recipes.execute("-", "python -c 1/0")
    with pytest.raises(SystemExit) as left:
        recipes.execute("-", "python -c 'raise SystemExit(143)'")
    assert left.value.code == 143
