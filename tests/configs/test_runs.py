"""Tiny runs of the shipped training: what they leave, and what ends them."""

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import EVALUATE, read, run
from helpers import measured, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.core.errors import UserError
from scripts.phantoms import generate
from scripts.training.weights import read_weights


def test_training_leaves_its_record(trained):
    table = rows(trained / "history.csv")
    assert [row["epoch"] for row in table] == ["1", "2"]
    names = read("train.json")["class_names"]
    for row in table:
        assert float(row["learning_rate"]) == pytest.approx(5e-4 * 0.985 ** (int(row["epoch"]) - 1))
        for side in ("train", "val"):
            values = [float(row[f"{side}_dice_{name}"]) for name in names]
            assert all(0 <= value <= 1 for value in values)
            assert float(row[f"{side}_mean_dice"]) == pytest.approx(np.mean(values[1:]), abs=2e-3)
    assert matplotlib.image.imread(trained / "progress.png").shape[1] > 800
    assert "Research use only" in (trained / "training.log").read_text()


def test_best_checkpoint_is_the_best_epoch(trained):
    saved = read_weights(trained / "models" / "model.pt")
    scores = [float(row["val_mean_dice"]) for row in rows(trained / "history.csv")]
    assert saved.info["score"] == pytest.approx(max(scores), abs=1e-4)
    assert saved.info["class_names"] == read("train.json")["class_names"]
    assert "phantoms" in saved.info["trained_on"]


def test_tensorboard_has_curves_and_pictures(trained):
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    scalars = events.Tags()["scalars"]
    for name in read("train.json")["class_names"]:
        assert f"train_dice_{name}" in scalars and f"val_dice_{name}" in scalars
    assert {"train_loss", "val_mean_dice"} <= set(scalars)
    assert events.Tags()["images"] == ["validation"]


def test_a_new_run_keeps_what_an_earlier_one_left(trained_copy, phantoms):
    models = trained_copy / "models"
    before = {file.name: file.read_bytes() for file in (models / "model.pt", models / "last.pt")}
    run("train", ["train.json"], dataset_dir=phantoms, output_dir=trained_copy, ckpt_dir=models, epochs=1)
    for name, content in before.items():
        assert (models / name).read_bytes() != content == (models / name.replace(".", ".1.")).read_bytes()
    assert [len(rows(trained_copy / name)) for name in ("history.csv", "history.1.csv")] == [1, 2]


def test_resize_last_trains(phantoms, tmp_path):
    folder = {"output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json", "resize_last.json"], dataset_dir=phantoms, epochs=1, **folder)
    assert len(rows(tmp_path / "history.csv")) == 1


def test_early_stop(phantoms, tmp_path):
    folder = {"output_dir": tmp_path, "ckpt_dir": tmp_path}
    run("train", ["train.json"], dataset_dir=phantoms, epochs=6, early_stop_patience=1, learning_rate=0.0, **folder)
    assert len(rows(tmp_path / "history.csv")) == 2


def test_infinite_loss_stops_in_one_line_and_keeps_the_weights(trained_copy, phantoms):
    folder = {"output_dir": trained_copy, "ckpt_dir": trained_copy / "models"}
    given = {"dataset_dir": phantoms, "epochs": 3, "resume": True, "loss::lambda_ce": float("inf")}
    with pytest.raises(UserError, match="loss::lambda_ce was 0.2, is inf"):
        run("train", ["train.json"], **given, **folder)
    given["resume_changed"] = True
    with pytest.raises(UserError, match="loss is nan|loss is inf") as error:
        run("train", ["train.json"], **given, **folder)
    assert "\n" not in str(error.value)
    saved = torch.load(trained_copy / "models" / "last.pt", weights_only=True)
    assert saved["epoch"] == 2 and all(torch.isfinite(value).all() for value in saved["model"].values())


def test_own_classes_follow_everywhere(phantoms, tmp_path):
    """A Decathlon folder and --class_names are all it takes."""
    generate.generate(tmp_path / "data", patients=3, scans=1, size=(32, 32, 16), seed=2, layout="decathlon")
    (tmp_path / "data" / "dataset.json").unlink()
    for file in (tmp_path / "data" / "labelsTr").iterdir():
        labels = nib.load(file)
        two = (np.asarray(labels.dataobj) == 5).astype(np.uint8)
        nib.save(nib.Nifti1Image(two, labels.affine), file)
    own = {"class_names": ["background", "prostate"], "dataset_dir": tmp_path / "data"}
    folder = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    made = run("train", ["train.json"], epochs=1, **own, **folder)
    assert made.parser.get_parsed_content("network_def").segmentations[0].out_channels == 2
    assert "val_dice_prostate" in rows(tmp_path / "out" / "history.csv")[0]
    run("evaluate", EVALUATE, **own, **folder)
    (scored,) = measured(tmp_path / "out" / "metrics.csv").values()
    assert list(scored) == ["prostate"]
    run("infer", ["inference.json"], **own, output_dir=tmp_path / "pred", ckpt_dir=tmp_path / "models", pictures=False)
    assert list(rows(tmp_path / "pred" / "volumes.csv")[0]) == ["case", "prostate_ml"]


@pytest.mark.parametrize(
    "kind, files, overrides, expected",
    [
        ("train", ["train.json"], {"dataset_dir": "nowhere"}, "nowhere: dataset_dir does not exist"),
        ("train", ["train.json"], {"spatial_size": [100, 96, 48]}, r"\(100, 96, 48\).*multiple of 16.*\(112, 96, 48\)"),
        ("train", ["train.json"], {"class_names": ["background"]}, "2 or more"),
        ("evaluate", EVALUATE, {}, "no such datalist"),
        ("infer", ["inference.json"], {}, "no weights there yet"),
        ("infer", ["inference.json"], {"dataset_dir": "nowhere.nii.gz"}, "no weights there yet"),
    ],
)
def test_mistakes_get_one_line(kind, files, overrides, expected, phantoms, tmp_path):
    folders = {"dataset_dir": phantoms, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}
    with pytest.raises(UserError, match=expected) as error:
        run(kind, files, **{**folders, **overrides})
    assert "\n" not in str(error.value)
