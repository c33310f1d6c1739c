"""The encoder of the first epochs: the same to the last bit, whatever would change it, and free afterwards."""

import pytest
import torch
from conftest import run, workflow
from helpers import refusal
from ignite.engine import Events

from scripts.networks.encoders import encoder_names
from scripts.training.checkpoint_files import read_checkpoint

OPTIMIZERS = {
    "adam": {"_target_": "torch.optim.Adam", "weight_decay": 0.1},
    "adamw": {"_target_": "torch.optim.AdamW", "weight_decay": 0.1},
    "momentum": {"_target_": "torch.optim.SGD", "momentum": 0.9, "weight_decay": 0.1},
}
AVERAGE = {  # 0.9 and 0.1 of a number rarely sum to the same number
    "averaging": {"_target_": "ignite.handlers.EMAHandler", "model": "@network", "momentum": 0.1},
    "averaged": "$@averaging.ema_model",
}


def tensors(network, names) -> list[torch.Tensor]:
    state = network.state_dict()
    return [state[name].clone() for name in names]


def equal(one, other) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("optimizer, norm", [("adam", "instance"), ("adamw", "batch"), ("momentum", "batch")])
def test_nothing_in_the_encoder_changes_until_it_is_set_free(optimizer, norm, phantoms, tmp_path):
    """Neither a weight nor a running statistic, of the network and of its average; then all do."""
    settings = {**OPTIMIZERS[optimizer], "params": "$@network.parameters()", "lr": 0.01}
    made = workflow(
        "train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path, ckpt_dir=tmp_path / "models", epochs=3,
        frozen_epochs=2, optimizer=settings, cache_rate=1.0, **AVERAGE,
        **{"network_def::norm": [norm, {"affine": True}], "network_def::levels": 3, "features": 2},
    )  # fmt: skip
    made.initialize()
    trainer = made.parser.get_parsed_content("train::trainer")
    network, averaged = (made.parser.get_parsed_content(name) for name in ("network_def", "averaged"))
    names = encoder_names(network)
    others = [name for name, _ in network.named_parameters() if name not in names]
    start, rest = tensors(network, names), tensors(network, others)
    seen = {}

    @trainer.on(Events.EPOCH_COMPLETED)
    def look(engine):
        seen[engine.state.epoch] = [tensors(one, names) for one in (network, averaged)], tensors(network, others)

    made.run()
    made.finalize()
    for epoch in (1, 2):
        for encoder in seen[epoch][0]:
            assert all(equal(encoder, start))
        assert not any(equal(seen[epoch][1], rest))
    for encoder in seen[3][0]:
        same = [name for name, kept in zip(names, equal(encoder, start), strict=True) if kept]
        # a bias in front of a normalisation has a gradient of nothing but rounding, and decays all the same
        assert same == []
    assert any(name.endswith("running_mean") for name in names) is (norm == "batch")


def test_without_frozen_epochs_all_changes_at_once(phantoms, tmp_path):
    made = workflow(
        "train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path, ckpt_dir=tmp_path / "models", epochs=1
    )
    made.initialize()
    network = made.parser.get_parsed_content("network_def")
    names = encoder_names(network)
    start = tensors(network, names)
    made.run()
    made.finalize()
    assert not any(equal(tensors(network, names), start))


def test_a_run_resumed_while_frozen_equals_an_unbroken_one(phantoms, tmp_path):
    """Killed in the second of two frozen epochs, of three; with an average, batch norm and fine-tuning's schedule."""
    common = {"dataset_dir": phantoms, "datalist": tmp_path / "datalist.json", "frozen_epochs": 2, "epochs": 3}
    common |= {"network_def::norm": "batch", **AVERAGE}
    folders = {
        name: {"output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models"} for name in ("whole", "broken")
    }
    files = ["train.json", "finetune.json"]
    run("train", files, **common, **folders["whole"])
    made = workflow("train", files, **common, **folders["broken"])
    made.initialize()

    @made.parser.get_parsed_content("train::trainer").on(Events.ITERATION_STARTED)
    def kill(engine):
        if engine.state.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run()
    run("train", files, resume=True, **common, **folders["broken"])
    whole, broken = (read_checkpoint(folder["ckpt_dir"] / "last.pt") for folder in folders.values())
    for part in ("model", "averaged"):
        assert all(equal(whole[part].values(), broken[part].values())) and whole[part].keys() == broken[part].keys()
    states = [saved["optimizer"]["state"] for saved in (whole, broken)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(state["exp_avg"], states[1][key]["exp_avg"]) for key, state in states[0].items())


def test_a_network_of_ones_own_wants_its_encoder_named(phantoms, tmp_path):
    given = {"dataset_dir": phantoms, "output_dir": tmp_path, "ckpt_dir": tmp_path / "models", "frozen_epochs": 1}
    own = {"network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 6, "kernel_size": 1}}
    made = workflow("train", ["train.json"], **given, **own)
    made.initialize()
    message = refusal(made.run)
    made.finalize()
    assert message.startswith("frozen_epochs: Conv3d: its encoder is not known") and "--frozen_epochs 0" in message
