"""The script that compares fine-tuning with training from scratch: its cases, its commands, its table."""

import importlib
import json
import math
import shlex
from argparse import Namespace

import nibabel as nib
import numpy as np
import pytest
from conftest import CONFIGS, ROOT
from helpers import stubs

from scripts.phantoms import generate


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fine_tuning")


def names(cases) -> set[str]:
    return {case["image"] for case in cases}


def test_no_case_is_trained_on_and_scored(script):
    cases = [{"image": f"{number}.nii"} for number in range(36)]
    for draw in script.DRAWS:
        parts = [script.divide(cases, draw, count) for count in script.COUNTS]
        for (training, scored), count in zip(parts, script.COUNTS, strict=True):
            assert len(names(training)) == count and len(names(scored)) == script.SCORED
            assert not names(training) & names(scored) and names(training) <= names(parts[-1][0])
    largest = [names(script.divide(cases, draw, 16)[0]) for draw in script.DRAWS]
    assert not largest[0] & largest[1]
    with pytest.raises(SystemExit, match="35 cases, expected 36 or more"):
        script.divide(cases[:35], 0, 4)


def test_the_other_site_has_another_contrast_and_no_patient_of_the_first(script, tmp_path):
    script.write_site(tmp_path, 100, 1)
    files = [nib.load(file).get_fdata() for file in sorted(tmp_path.rglob("*.nii.gz"))]
    (image, label), (usual, truth) = sorted(files, key=lambda a: -a.max()), generate.make_scan(100, 0, seed=0)
    assert image.shape == script.SIZE and set(np.unique(label)) == set(range(6))
    assert not np.array_equal(label, truth)
    bladder, body = 3, 1

    def contrast(scan, classes):
        return scan[classes == bladder].mean() / scan[classes == body].mean()

    assert contrast(image, label) < 1 < contrast(usual, truth)


@pytest.fixture
def given(tmp_path):
    real = stubs(
        tmp_path / "real", [f"{part}/Case{n:02}.nii.gz" for part in ("imagesTr", "labelsTr") for n in range(36)]
    )
    return Namespace(output=tmp_path / "out", real=real, half=True, options={"frozen_epochs": "3"})


def test_both_arms_differ_in_what_they_start_from_and_its_settings(script, given, monkeypatch):
    ran = []
    for module in ("fine_tuning", "trainings"):  # the latter trains, for both
        monkeypatch.setattr(f"{module}.execute", lambda title, command, deadline: ran.append(command) or True)
    pair = [script.Run("prostate", 1, 4, tuned) for tuned in (False, True)]
    assert script.train_source(given, math.inf) and all(script.work(run, given, math.inf) for run in pair)
    source, scratch, scored, tuned, _ = map(shlex.split, ran)
    known = {key for file in CONFIGS.glob("*.json") for key in json.loads(file.read_text())}

    def options(words):
        found = {word[2:]: words[place + 1] for place, word in enumerate(words) if word.startswith("--")}
        assert found.keys() - {"config_file"} <= known
        return {
            key: value
            for key, value in found.items()
            if key not in ("datalist", "output_dir", "ckpt_dir", "config_file")
        }

    one, other = options(scratch), options(tuned)
    differing = {key for key in one | other if one.get(key) != other.get(key)}
    assert differing == {"pretrained", "rate_factor", "frozen_epochs"}
    assert other["pretrained"] == f"{given.output}/source/models/model.pt" and "rate_factor" not in other
    assert (one["copies"], one["seed"], one["class_names"]) == ("4", "1", "['background', 'prostate']")
    assert "pretrained" not in options(source) and "evaluating" in scored
    ran.clear()
    assert all(script.work(run, given, math.inf) for run in pair)
    assert all("evaluating" in command for command in ran)  # what is trained isn't trained again
    with pytest.raises(SystemExit, match="trained by another command"):
        script.work(pair[1], Namespace(**{**vars(given), "options": {}}), math.inf)


def test_the_guide_says_what_was_measured():
    """Its table is held to the same file by test_documents.py."""
    docs = ROOT / "bundle" / "docs"
    rows = json.loads((docs / "fine_tuning_metrics.json").read_text())["rows"]
    text = " ".join((docs / "how-to" / "fine-tune.md").read_text().split())
    site, real = ([row["difference"] for row in rows if row["task"] == task] for task in ("site", "prostate"))
    better = [sum(found["mean"] > 0 for found in part) for part in (site, real)]
    means = [found["mean"] for found in site]
    assert f"better in {better[0]} of {len(site)} pairs, by {min(means):.3f} to {max(means):.3f}." in text
    clear = sum(found["ci"][0] > 0 or found["ci"][1] < 0 for found in real)
    assert f"better in {better[1]} of {len(real)} pairs, and {clear} of {len(real)} intervals exclude" in text
    assert all(
        row["difference"]["mean"] < 0 for row in rows if (row["task"], row["training_cases"]) == ("prostate", 16)
    )
    assert {(row["iterations"], row["scored_cases"]) for row in rows} == {(192, 20)}
    assert "number of iterations (192, one case each)" in text and "scored on 20 cases" in text


def test_table(script):
    row = {
        "task": "site", "training_cases": 8, "draw": 1, "scratch": 0.81234, "tuned": 0.85,
        "difference": {"mean": 0.0377, "ci": [-0.01, 0.0661]},
    }  # fmt: skip
    assert script.table([row]).splitlines()[2] == (
        "| another site, phantoms | 8 | 2 | 0.812 | 0.850 | +0.038 (-0.010 to +0.066) |"
    )
