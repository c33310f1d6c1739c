"""The guard: command lines it refuses or lets pass, knobs it checks, two runs in one folder, the size of the cache."""

import json
import logging
import re
import subprocess
import sys

import pytest
import torch
from conftest import BUNDLE
from filelock import FileLock, Timeout
from helpers import refusal

from monai.data import CacheDataset
from monai.transforms import Compose, Lambdad, RandFlipd, ToTensord
from scripts import guard
from scripts.improved_unet import ImprovedUNet

RUN = ["run", "training", "--config_file", "configs/train.json"]
NAMES = ["background", "body"]


@pytest.fixture(scope="module")
def network():
    return ImprovedUNet(features=1)


@pytest.fixture(autouse=True)
def released():
    """Lock and log file of a test end with it."""
    yield
    guard.finish()


def start(folder, network, **given):
    knobs = {"log_name": "training", "class_names": NAMES, "spatial_size": [32, 32, 16], **given}
    guard.start(str(folder), network=network, **knobs)


@pytest.mark.parametrize(
    "words, wrong, meant",
    [
        (["--epoch", "5"], "--epoch", "--epochs"),
        (["--epoch=5"], "--epoch", "--epochs"),
        (["--epochs", "5", "--lerning_rate=-1"], "--lerning_rate", "--learning_rate"),
        (["--class-name", "[]"], "--class_name", "--class_names"),
        (["--network_def::dropot", "0.1"], "--network_def::dropot", "--network_def::dropout"),
        (["--network_deff::dropout", "0.1"], "--network_deff::dropout", "--network_def::dropout"),
        (["--network_def#dropot", "0.1"], "--network_def#dropot", "--network_def::dropout"),
        (["--train::trainer::max_epoch", "3"], "--train::trainer::max_epoch", "--train::trainer::max_epochs"),
        (["--config_fil", "a.json"], "--config_fil", "--config_file"),
        (["--+epoch", "5"], "--+epoch", "--epochs"),
    ],
)
def test_unknown_ids_are_refused(words, wrong, meant):
    message = refusal(guard.refuse_unknown_ids, [*RUN, *words])
    assert message.startswith(f"{wrong}: ") and message.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--epochs", "5"],
        ["--epochs=5", "--bundle_root", "/somewhere", "--split", "validation"],
        ["--network_def::dropout", "0.1"],
        ["--network_def::levels", "4"],  # no configuration sets it
        ["--optimizer::amsgrad", "True"],  # likewise, in a class of torch
        ["--train::trainer::max_epochs", "3"],
        ["--train#trainer#max_epochs", "3"],
        ["--train#trainer::non_blocking", "True"],
        ["--random_chain::1::prob", "0"],
        ["--class-names", "['background','prostate']"],
        ["--+class_names", "['extra']"],
        ["--flip_axis", "-1", "--noise_std", "-.5", "--rotate_range=-1e-3"],
        ["--init_id", "x", "--final_id", "x", "--meta_file", "m", "--logging_file", "l", "--tracking", "t"],
        ["--run_id", "training"],
    ],
)
def test_known_ids_pass(words):
    guard.refuse_unknown_ids([*RUN, *words])


@pytest.mark.parametrize("form", [["--args_file", "{}"], ["--args_file={}"]])
def test_ids_of_an_args_file(form, tmp_path):
    file = tmp_path / "f.json"
    words = [*RUN, *(word.format(file) for word in form)]
    file.write_text(json.dumps({"epochs": 3, "config_file": "configs/train.json"}))
    guard.refuse_unknown_ids(words)
    file.write_text(json.dumps({"epochs": 3, "batchsize": 4}))
    assert refusal(guard.refuse_unknown_ids, words).endswith("did you mean --batch_size?")


@pytest.mark.parametrize(
    "line", [[], ["ckpt_export", "--epoch", "5"], ["-q", "--epoch", "5"], ["tests/run", "--epoch"]]
)
def test_other_command_lines_are_left_alone(line):
    guard.refuse_unknown_ids(line)


def test_every_target_of_the_configurations_can_be_asked():
    known, components = guard.known_ids()
    assert {"epochs", "train::trainer::max_epochs", "deterministic_chain::0"} <= known
    assert components["network_def"] == "scripts.improved_unet.ImprovedUNet"
    for name in components:
        assert not guard.is_argument(f"{name}::no_such_argument", components)


def test_start_reads_the_command_line(tmp_path, network, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *RUN, "--epoch", "5"])
    assert "--epochs" in refusal(start, tmp_path / "out", network)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", ["background", ["background"], [], ["background", "body", "body"]])
def test_bad_class_names(names, tmp_path, network):
    message = refusal(start, tmp_path, network, class_names=names)
    assert f"class_names is {names!r}" in message and "two or more different names" in message


@pytest.mark.parametrize("size", [[30, 32, 16], [16, 16, 16]])
def test_bad_spatial_size(size, tmp_path, network):
    message = refusal(start, tmp_path, network, spatial_size=size)
    assert message.startswith("spatial_size: ") and str(tuple(size)) in message and "multiple of 16" in message


def test_a_network_without_a_size_check_takes_any(tmp_path):
    start(tmp_path, torch.nn.Identity(), spatial_size=[30, 30, 30])


def test_two_runs_do_not_share_a_folder(tmp_path, network):
    (tmp_path / "a").mkdir()
    with FileLock(tmp_path / "a" / ".training.lock"):  # as a run in another process holds it
        message = refusal(start, tmp_path / "a", network)
        assert str(tmp_path / "a") in message and "another training run" in message and "--output_dir" in message
        assert not (tmp_path / "a" / "training.log").exists()
        start(tmp_path / "b", network)
        start(tmp_path / "a", network, log_name="evaluation")
    start(tmp_path / "a", network)


def test_two_runs_do_not_share_their_checkpoints(tmp_path, network):
    (tmp_path / "models").mkdir()
    with FileLock(tmp_path / "models" / ".training.lock"):
        message = refusal(start, tmp_path / "a", network, ckpt_dir=tmp_path / "models")
        assert str(tmp_path / "models") in message and "--ckpt_dir" in message
    start(tmp_path / "models", network, ckpt_dir=tmp_path / "models")  # one folder for both is no conflict


@pytest.mark.parametrize("end", [guard.finish, None])
def test_a_folder_is_locked_until_the_run_ends(end, tmp_path, network):
    """Finished, or ended by an error and followed by another run in this process."""
    start(tmp_path / "a", network)
    lock = FileLock(tmp_path / "a" / ".training.lock")
    with pytest.raises(Timeout):
        lock.acquire(timeout=0)
    end() if end else start(tmp_path / "b", network)
    with lock.acquire(timeout=0):
        logging.getLogger().warning("after the end")
    assert "after the end" not in (tmp_path / "a" / "training.log").read_text()


def test_the_log_file_opens_with_the_notice(tmp_path, network, caplog):
    with caplog.at_level(logging.INFO):
        start(tmp_path / "new" / "folder", network)
    text = (tmp_path / "new" / "folder" / "training.log").read_text()
    assert text.rstrip().endswith("Research use only: not for diagnosis or treatment.")


def test_other_processes_check_but_neither_lock_nor_log(tmp_path, network):
    start(tmp_path / "out", network, main_process=False)
    assert not (tmp_path / "out").exists()
    refusal(start, tmp_path, network, main_process=False, class_names=["a"])


@pytest.mark.parametrize("rate, cached", [(1.0, 12), (0.5, 5), (0.0, 0)])
@pytest.mark.parametrize("random", [True, False])
def test_announced_size_is_that_of_the_cached_items(rate, cached, random, caplog):
    def double(image):
        return image.repeat(1, 1, 1, 2)

    steps = [ToTensord(["image", "label"]), Lambdad("image", double)]
    chain = Compose([*steps, RandFlipd(["image"], prob=1.0)] if random else steps)
    item = {"image": torch.zeros(1, 16, 32, 64), "label": torch.zeros(1, 16, 32, 128, dtype=torch.uint8)}
    data = {"training": [item] * 9, "validation": [item] * 3, "test": [item]}
    with caplog.at_level(logging.INFO):
        guard.announce_cache(chain, data, ["training", "validation"], rate)
    datasets = [CacheDataset(data[s], chain, cache_rate=rate, progress=False) for s in ("training", "validation")]
    held = [entry for dataset in datasets for entry in dataset._cache]
    each = sum(t.numel() * t.element_size() for t in (double(item["image"]), item["label"]))
    line = caplog.messages[-1]
    assert len(held) == cached and line.startswith(
        f"cache: {cached} cases of 16 x 32 x 128, {each / 2**20:.1f} MiB each"
    )
    total = sum(entry[key].numel() * entry[key].element_size() for entry in held for key in ("image", "label"))
    assert f"{total / 2**30:.2f} GiB in all" in line


def test_no_cases_to_cache(caplog):
    message = refusal(guard.announce_cache, Compose([]), {"training": []}, ["training"], 1.0)
    assert "no training cases in the datalist" in message


def test_free_memory_is_told_where_it_is_known(caplog):
    item = {"image": torch.zeros(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 4)}
    with caplog.at_level(logging.INFO):
        guard.announce_cache(Compose([]), {"test": [item]}, ["test"], 1.0)
    free = re.search(r"([\d.]+) GiB are free", caplog.messages[-1])
    assert bool(free) == hasattr(guard.os, "sysconf")


def test_an_error_that_nobody_foresaw_takes_two_lines(phantoms, tmp_path):
    """As a command: the traceback stands in the log file, and on the screen only if asked for."""
    given = ["--dataset_dir", phantoms, "--output_dir", tmp_path, "--ckpt_dir", tmp_path, "--num_workers", 0]
    given += ["--config_file", "['configs/train.json','configs/demo.json']", "--loss::lambda_dice", "'much'"]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", *map(str, given)]
    done = subprocess.run(command, cwd=BUNDLE, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1 and len(said) <= 3, said
    assert "--debug True" in said[-1] and str(tmp_path / "training.log") in said[-1]
    assert "Traceback" in (tmp_path / "training.log").read_text()


def test_a_traceback_is_asked_for(monkeypatch, tmp_path):
    class_names, network = ["background", "body"], torch.nn.Identity()
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run"])
    for debug in (True, False):
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        guard.start(str(tmp_path), "training", class_names, network, [32, 32, 16], debug=debug)
        guard.finish()
        assert (sys.excepthook is guard.tell) == (not debug)


def test_what_is_told_of_an_error(capsys, tmp_path):
    guard.start(str(tmp_path), "training", ["background", "body"], torch.nn.Identity(), [32, 32, 16])
    try:
        raise RuntimeError("while doing a") from ValueError("the real reason")
    except RuntimeError as error:
        guard.tell(type(error), error, error.__traceback__)
    guard.finish()
    assert capsys.readouterr().err.splitlines() == [
        "ValueError: the real reason",
        f"The traceback is in {tmp_path / 'training.log'}; --debug True prints it.",
    ]
    assert "while doing a" in (tmp_path / "training.log").read_text()
    guard.tell(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"
