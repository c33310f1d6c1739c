"""Runs that were broken off, repeated, or taken in smaller steps come to the same."""

import pytest
import torch
from conftest import run, workflow
from helpers import rows
from ignite.engine import Events

from scripts.data import datalist
from scripts.training.weights import read_weights


def losses(folder) -> list[tuple]:
    return [tuple(v for k, v in row.items() if k != "seconds") for row in rows(folder / "history.csv")]


@pytest.mark.parametrize(
    ("files", "workers", "epochs"),
    [(["train.json"], 0, 2), (["train.json"], 2, 2), (["train.json", "strong.json"], 0, 3)],
)
def test_resumed_run_equals_an_unbroken_one(files, workers, epochs, phantoms, tmp_path):
    """Killed in the second epoch: the same curve, the same weights, to the last bit, also in bfloat16.

    strong.json has one epoch more: its early changes end between the second and the third.
    """
    common = {"dataset_dir": phantoms, "num_workers": workers, "datalist": tmp_path / "datalist.json"}
    runs = {
        name: {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models"} for name in ("whole", "broken")
    }
    common["epochs"] = epochs
    run("train", files, **common, **runs["whole"])
    made = workflow("train", files, **common, **runs["broken"])
    made.initialize()
    trainer = made.parser.get_parsed_content("train::trainer")

    @trainer.on(Events.ITERATION_STARTED)
    def kill(engine):
        if engine.state.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run()
    run("train", files, resume=True, **common, **runs["broken"])
    assert losses(tmp_path / "whole") == losses(tmp_path / "broken")
    for name in ("model.pt", "last.pt"):
        whole, broken = (read_weights(r["ckpt_dir"] / name) for r in runs.values())
        assert whole.info == broken.info
        for key, value in whole.networks[0].items():
            assert torch.equal(value, broken.networks[0][key]), key


def test_same_seed_same_curve(trained, phantoms, tmp_path):
    overrides = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path / "models", "epochs": 2}
    run("train", ["train.json"], **overrides)
    assert losses(trained) == losses(tmp_path)
    run("train", ["train.json"], **{**overrides, "seed": 1, "epochs": 1})
    assert losses(trained)[:1] != losses(tmp_path)


def test_accumulated_steps_equal_one_large_batch(phantoms, tmp_path):
    """Two batches of one case, accumulated, move the weights as one batch of two does."""
    still = {"rotate_range": 0.0, "noise_std": 0.0, "flip_probability": 0.0, "dropout": 0.0, "epochs": 1}
    content = datalist.make_datalist(str(phantoms), test=0.6, validation=0.2)
    content["training"] = content["training"][:2]
    datalist.write_datalist(content, tmp_path / "list.json")
    weights = []
    for name, sizes in (("one", {"batch_size": 2}), ("two", {"batch_size": 1, "accumulation_steps": 2})):
        folder = {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name, "datalist": tmp_path / "list.json"}
        run("train", ["train.json"], dataset_dir=phantoms, **folder, **still, **sizes)
        weights.append(torch.load(tmp_path / name / "last.pt", weights_only=True)["optimizer"]["state"])
    for key in weights[0]:
        assert torch.allclose(weights[0][key]["exp_avg"], weights[1][key]["exp_avg"], atol=1e-5), key
