"""The script that measures the steps of the strong training: its patches can be built, its table says all of it."""

import importlib
import json
from argparse import Namespace

import pytest
import torch
from conftest import CONFIGS, ROOT
from monai.bundle import ConfigParser
from monai.transforms import Compose

SIZE = (40, 56, 40)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("strong_steps")


def parser(patch: dict) -> ConfigParser:
    made = ConfigParser()
    made.read_config([str(CONFIGS / f"{name}.json") for name in ("train", "recipe_hippocampus", "strong")])
    for name, value in patch.items():
        made[name] = value
    return made


def test_every_step_changes_one_thing_and_can_be_built(script):
    plain = parser({})
    for name, (what, patch) in script.STEPS.items():
        made = parser(patch)
        changed = {key for key in made.config if made.config[key] != plain.config[key]}
        assert (changed == set()) is (name == "strong"), what
        made["features"], made["train::dataloader"] = 2, [0] * 10
        assert made.get_parsed_content("optimizer") and made.get_parsed_content("lr_scheduler")
        chain = Compose(made.get_parsed_content("random_chain")).set_random_state(1)
        sample = {"image": torch.rand(1, 48, 64, 48), "label": torch.randint(3, (1, 48, 64, 48)).float()}
        channels = made.get_parsed_content("network_def::in_channels")
        given = chain(sample | {"image": torch.rand(channels, 48, 64, 48)})
        size = tuple(made.get_parsed_content("spatial_size"))
        assert given["label"].shape == (1, *size) and given["image"].shape == (channels, *size)
        assert set(given["label"].unique().tolist()) <= {0, 1, 2}


def test_what_trains_nothing_scores_what_is_there(script, tmp_path, monkeypatch):
    ran = {}
    monkeypatch.setattr(script, "execute", lambda title, command: ran.update({title: command}) or True)
    monkeypatch.setattr(script, "datalist", lambda data, part: {})
    given = Namespace(output=tmp_path, epochs=8, data=tmp_path)
    assert all(script.work(name, given) for name in ("strong", *script.SCORED))
    assert [*ran] == ["strong: train", "strong: score", "padded: score", "ensemble: score"]
    strong, other = (f"{tmp_path}/{name}/models/model.pt" for name in ("strong", "seed"))
    assert strong in ran["padded: score"] and '--window_size "[48, 64, 48]"' in ran["padded: score"]
    assert f"--members \"['{strong}', '{other}']\"" in ran["ensemble: score"]
    assert "configs/ensemble.json" in ran["ensemble: score"] and "ensemble.json" not in ran["padded: score"]


def test_table(script):
    rows = [
        {"what": "as it is", "dice": {"anterior": 0.9, "posterior": 0.88}},
        {
            "what": "another seed",
            "dice": {"anterior": 0.89, "posterior": 0.87},
            "difference": {"mean": -0.01, "ci": [-0.02, 0.001]},
        },
    ]
    rows.append(rows[1] | {"earlier": True})
    lines = script.table(rows).splitlines()
    assert lines[4].startswith("| another seed \\* | 0.8900")
    assert lines[2] == "| as it is | 0.9000 | 0.8800 |  |"
    assert lines[3] == "| another seed | 0.8900 | 0.8700 | -0.0100 (-0.0200 to +0.0010) |"


def test_a_folder_of_another_length_is_left_alone(script, tmp_path):
    folder = tmp_path / "strong"
    folder.mkdir()
    (folder / "step.json").write_text(json.dumps({"epochs": 3}))
    with pytest.raises(SystemExit, match="made with other settings; move it away"):
        script.work("strong", Namespace(output=tmp_path, epochs=8, data=tmp_path))
