"""`python -m scripts.plan`, and a training, an evaluation and an inference with what it has written."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import BUNDLE, EVALUATE, run
from helpers import refusal, rows
from matplotlib.image import imread
from plan_samples import NAMES, write_set

from scripts.check import cache
from scripts.phantoms import generate
from scripts.plan import timing
from scripts.plan.command import main
from scripts.plan.picture import draw


@pytest.fixture
def quick(monkeypatch):
    """A clock that does nothing but tell, and no picture."""
    monkeypatch.setattr("scripts.plan.command.measure_apart", lambda *_: timing.Cost(0.001, 0.001, 0.1))
    monkeypatch.setattr("scripts.plan.command.draw", lambda *_: None)


def test_the_patch_its_reasons_and_its_picture(tmp_path, quick, monkeypatch, capsys):
    monkeypatch.setattr("scripts.plan.command.draw", draw)
    folder = write_set(tmp_path / "data")
    main(str(folder), str(tmp_path / "plan.json"), output_dir=str(tmp_path / "out"), workers=1)
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["class_names"] == ["background", "organ"] and content["flip_probability"] == 0
    reasons = [name for name in content if name.startswith("_desc_") and name != "_desc_"]
    assert len(reasons) > 8 and all(name.removeprefix("_desc_") in content for name in reasons)
    lines = (tmp_path / "plan.json").read_text().splitlines()
    assert all(len(line) < 400 for line in lines) and len(lines) > 40
    picture = imread(tmp_path / "plan.png")
    assert picture.shape[1] > 1000 and np.std(picture[..., :3]) > 0.1
    printed = capsys.readouterr().out
    assert "flip_probability = 0: No case is a mirror image of another" in printed and "run training" in printed


def test_no_file_is_read_twice(tmp_path, quick, monkeypatch):
    folder, read = write_set(tmp_path / "data", cases=3), []
    inspect = cache.inspect_image
    monkeypatch.setattr(cache, "inspect_image", lambda path, *more: read.append(path) or inspect(path, *more))
    for _ in range(2):
        main(str(folder), str(tmp_path / "plan.json"), output_dir=str(tmp_path / "out"), workers=1)
    assert len(read) == len(set(read)) == 6


def test_wrong_use_is_one_line(tmp_path, quick):
    folder, file, out = str(write_set(tmp_path / "data")), str(tmp_path / "plan.json"), str(tmp_path / "out")
    assert "minutes is 0: expected a number above 0" in refusal(main, folder, file, minutes=0)
    assert "memory is 'much'" in refusal(main, folder, file, memory="much")
    assert "ends in .json" in refusal(main, folder, "plan.yaml")
    alone = str(write_set(tmp_path / "alone", cases=1))
    assert "found one patient with a label" in refusal(main, alone, file, output_dir=str(tmp_path / "out_alone"))
    (tmp_path / "data/dataset.json").unlink()
    assert "the labels have the values 0 to 1, and nothing names them" in refusal(main, folder, file, output_dir=out)
    names = {"0": "background", "1": "organ", "2": "never drawn"}
    (tmp_path / "data/dataset.json").write_text(json.dumps({"labels": names}))
    main(folder, file, output_dir=out)  # the folder names it, so it is a class that no case has
    (tmp_path / "data/imagesTr/case_00.nii.gz").write_bytes(b"")
    names = ["background", "organ"]
    assert "empty file" in refusal(main, folder, file, class_names=names, output_dir=out)


def test_a_list_has_its_own_split(tmp_path, quick, capsys):
    folder, listed = write_set(tmp_path / "data"), tmp_path / "list.json"
    cases = [
        {"image": f"imagesTr/case_{n:02}.nii.gz", "label": f"labelsTr/case_{n:02}.nii.gz", "patient": str(n)}
        for n in range(12)
    ]
    listed.write_text(json.dumps({"training": cases[:8], "validation": cases[8:], "class_names": NAMES}))
    given = {"datalist": str(listed), "output_dir": str(tmp_path / "out"), "workers": 1}
    main(str(folder), str(tmp_path / "plan.json"), **given)
    assert not {"folds", "fold", "test_share"} & set(json.loads((tmp_path / "plan.json").read_text()))
    assert "about 8 cases train" in capsys.readouterr().out
    folds = [case | {"fold": 1 + number % 3} for number, case in enumerate(cases)]
    listed.write_text(json.dumps({"training": folds, "class_names": NAMES}))
    main(str(folder), str(tmp_path / "plan.json"), **given)
    assert json.loads((tmp_path / "plan.json").read_text())["fold"] == 1
    said = capsys.readouterr().out
    assert f"--dataset_dir {folder} --datalist {listed}" in said and "about 8 cases train" in said


def test_folders_have_their_own_split(tmp_path, quick, capsys):
    """Folds would train on the pictures of the folder that is named for the test."""
    folder = tmp_path / "data"
    generate.generate(folder, layout="cardiac_png", patients=6, scans=2, size=(48, 48))
    names = ["background", "right ventricle", "myocardium", "left ventricle"]
    given = {"class_names": names, "output_dir": str(tmp_path / "out"), "workers": 1}
    main(str(folder), str(tmp_path / "plan.json"), **given)
    assert not {"folds", "fold", "test_share"} & set(json.loads((tmp_path / "plan.json").read_text()))
    assert "about 8 cases train" in capsys.readouterr().out
    for side in ("val", "test"):
        shutil.rmtree(folder / side)
    main(str(folder), str(tmp_path / "plan.json"), **given)
    assert json.loads((tmp_path / "plan.json").read_text())["folds"] == 5  # one folder divides nothing


@pytest.mark.programs
def test_the_memory_of_a_step_does_not_depend_on_what_was_done_before():
    """In this process, as by a check of large data: a child is told of the peak of its parent, far above its own."""
    used = np.ones(2**27)
    del used
    patch = {"features": 8, "class_names": ["background", "organ"]}
    sizes = {"large": [48, 48, 32], "small": [32, 32, 16]}
    large, small = (timing.measure_apart(patch | {"spatial_size": size}, size).gib for size in sizes.values())
    assert 0 < small < large


@pytest.mark.parametrize(
    "status, errors, said",
    [
        (-9, "", None),
        (1, "Traceback ...\ntorch.OutOfMemoryError: CUDA out of memory.\nRuntimeError: Failed to evaluate\n", None),
        (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...\n", None),
        (1, "Traceback ...\nKeyError: 'no key'\nRuntimeError: Failed to evaluate\n", "KeyError: 'no key'"),
    ],
)
def test_a_step_that_fails_for_lack_of_memory_costs_more_than_there_is(status, errors, said, monkeypatch):
    """The system kills the process, torch says so, or it is another error, of which the cause is named."""
    done = subprocess.CompletedProcess([], status, "", errors)
    monkeypatch.setattr(timing.subprocess, "run", lambda *_, **__: done)
    if said is None:
        assert timing.measure_apart({}, []).gib == math.inf
    else:
        assert said in refusal(timing.measure_apart, {}, [])


def test_a_step_is_timed(tmp_path):
    patch = {"spatial_size": [32, 32, 32], "features": 2, "class_names": ["background", "organ"], "num_workers": 0}
    cost = timing.measure(patch, [32, 32, 32])
    assert 0 < cost.scoring < cost.step < 60 and cost.gib >= 0
    more = timing.measure(patch | {"batch_size": 4, "features": 8}, [32, 32, 32])
    assert more.step > cost.step


@pytest.mark.programs
def test_a_plan_trains_scores_and_segments(tmp_path):
    """The plan and the training as one types them. Any size is good enough for so many minutes."""
    folder, plan, out, models = (tmp_path / name for name in ("data", "plan.json", "out", "models"))
    write_set(folder, cases=8)

    def command(*words: str) -> None:
        places = ["--dataset_dir", str(folder), "--output_dir", str(out)]
        words = [sys.executable, "-m", *words, *places]
        done = subprocess.run(words, cwd=BUNDLE, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    command("scripts.plan", "--output", str(plan), "--minutes", "1e6")
    small = {"features": 4, "spatial_size": [32, 32, 32], "window_size": [32, 32, 32]}
    assert small.keys() <= json.loads(plan.read_text()).keys()  # images as small as these are seen in parts
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    words += ["--epochs", "8", "--calibrate", "False", "--ckpt_dir", str(models)]
    command("monai.bundle", "run", "training", "--config_file", f"['configs/train.json','{plan}']", *words)
    given = {"base": small, "ckpt_dir": models}
    run("evaluate", [*EVALUATE, str(plan)], **given, dataset_dir=folder, output_dir=out, split="validation")
    assert mean_dice(out) > 0.5
    image = folder / "imagesTr" / "case_00.nii.gz"
    run("infer", ["inference.json", str(plan)], **given, dataset_dir=image, output_dir=tmp_path / "seg")
    assert organ_ml(tmp_path / "seg") > 0


@pytest.mark.programs
def test_a_plan_for_large_images_trains_scores_and_segments(tmp_path):
    """All of it in this process; the images are seen at once."""
    folder, file = write_set(tmp_path / "data", cases=8, shape=(68, 68, 64), both_hands=True), tmp_path / "plan.json"
    main(str(folder), str(file), minutes=1e6, output_dir=str(tmp_path / "out"), workers=1)
    assert "window_size" not in json.loads(file.read_text())
    small = {"features": 4, "spatial_size": [32, 32, 32], "cache_workers": 1}
    out = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    run("train", ["train.json", str(file)], base=small, dataset_dir=folder, epochs=8, **out)
    run("evaluate", [*EVALUATE, str(file)], base=small, dataset_dir=folder, split="validation", **out)
    assert mean_dice(tmp_path / "out") > 0.5
    out["output_dir"] = tmp_path / "seg"
    run("infer", ["inference.json", str(file)], base=small, dataset_dir=folder / "imagesTr/case_00.nii.gz", **out)
    assert organ_ml(tmp_path / "seg") > 0


def mean_dice(folder) -> float:
    return json.loads((folder / "metrics.json").read_text())["foreground"]["mean"]


def organ_ml(folder) -> float:
    return float(rows(folder / "volumes.csv")[0]["organ_ml"])
