"""The start of a run: command lines, knobs, two runs in one folder, the size of the cache; the lines about errors."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import BUNDLE, as_bundle_command
from filelock import FileLock, Timeout
from helpers import refusal
from monai.utils import instantiate

from scripts.core.errors import UserError
from scripts.networks.improved_unet import ImprovedUNet
from scripts.run import command_line, crash, session
from scripts.run.configuration import refuse_wrong_order
from scripts.run.words import files_of

pytestmark = pytest.mark.programs

RUN = ["run", "training", "--config_file", "configs/train.json"]


@pytest.fixture(scope="module")
def network():
    return ImprovedUNet(features=1)


@pytest.fixture(autouse=True)
def released():
    """Lock and log file of a test end with it."""
    yield
    session.finish()


def start(folder, network, **given):
    knobs = {"log_name": "training", "spatial_size": [32, 32, 16], **given}
    session.start(str(folder), network=network, **knobs)


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
    message = refusal(command_line.refuse_unknown_ids, [*RUN, *words])
    assert message.startswith(f"{wrong}: ") and message.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("form", ["--config_file {}", "--config_file={}"])
@pytest.mark.parametrize(
    "files, refused",
    [
        (["configs/demo.json", "configs/train.json"], True),
        (["configs/mirrored.json", "/else where/inference.json"], True),
        (["configs/train.json", "configs/evaluate.json", "configs/demo.json"], False),
        (["configs/train.json", "plan.json", "configs/evaluate.json"], True),
        (["configs/train.json", "configs/strong.json", "configs/recipe_hippocampus.json"], True),
        (["configs/train.json", "configs/recipe_hippocampus.json", "configs/strong.json"], False),
        (["configs/train.json", "configs/finetune.json", "configs/strong.json"], True),
        (["configs/train.json", "configs/strong.json", "configs/demo.json"], True),
        (
            ["configs/train.json", "configs/demo.json", "own.json", "configs/strong.json", "configs/finetune.json"],
            False,
        ),
        (["configs/train.json", "configs/evaluate.json", "configs/mirrored.json", "configs/recipe_lgg_2d.json"], True),
        (["own.json", "other.json"], False),
        ("configs/demo.json,configs/train.json", True),
        ("configs/my train.json", False),
        ("[configs/train.json", False),
    ],
)
def test_a_patch_before_its_file_is_refused(files, refused, form):
    words = [*RUN, *form.replace(" ", "\n").format(files).split("\n")]
    if refused:
        said = refusal(refuse_wrong_order, files_of(words))
        *_, first, second = files if isinstance(files, list) else files.split(",")
        assert said.startswith(f"--config_file: {first} stands before {second}") and "put" in said
    else:
        refuse_wrong_order(files_of(words))


def test_the_published_order_of_steps_has_no_recipe_beside_it():
    for other in ("recipe_promise12.json", "strong.json"):
        assert "leave one of the two out" in refusal(refuse_wrong_order, ["train.json", "resize_last.json", other])
    refuse_wrong_order(["train.json", "demo.json", "resize_last.json"])


@pytest.mark.parametrize(
    "files, put",
    [
        (["train", "recipe_lgg_2d", "strong"], "configs/strong_2d.json"),
        (["train", "recipe_hippocampus", "strong_2d"], "configs/strong.json"),
        (["train", "recipe_cardiac_2d", "strong_2d"], None),
        (["train", "strong"], None),
    ],
)
def test_stronger_training_has_as_many_axes_as_the_images(files, put):
    paths = [str(BUNDLE / "configs" / f"{name}.json") for name in files]
    if put:
        said = refusal(refuse_wrong_order, paths)
        assert said.startswith(f"--config_file: {paths[-1]} is for images of") and f"put {put} in its place" in said
    else:
        refuse_wrong_order(paths)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--epochs", "5"],
        ["--epochs=5", "--bundle_root", "/somewhere", "--split", "validation"],
        ["--network_def::dropout", "0.1"],
        ["--network_def::levels", "4"],  # no configuration sets it
        ["--network_def::shortcut", "True"],  # nor this; it is one of a recipe's network
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
    command_line.refuse_unknown_ids([*RUN, *words])


@pytest.mark.parametrize(
    "words, files, said",
    [
        (["training"], ["train.json"], None),
        ([], ["train.json", "evaluate.json"], None),
        (["--run_id", "inference"], ["inference.json"], None),
        (["--run-id", "inference"], ["inference.json"], None),
        (["--run_id=epochs"], ["train.json"], "run epochs: found no such run in {}, expected training"),
        (["infer"], ["inference.json"], "run infer: found no such run in {}, expected inference"),
        (["--run_id=infer"], ["inference.json"], "run infer: found no such run in {}, expected inference"),
        (
            ["train"],
            ["train.json", "evaluate.json"],
            "run train: found no such run in {}, expected training or evaluating",
        ),
        (
            ["evaluating"],
            ["train.json"],
            "run evaluating: found no such run in {}, expected training; evaluating is in configs/evaluate.json",
        ),
    ],
)
def test_a_run_that_the_given_files_do_not_have_is_refused(words, files, said):
    given = [str(BUNDLE / "configs" / name) for name in files]
    line = ["run", *words, "--config-file", str(given)]
    if said is None:
        command_line.refuse_unknown_run(line)
    else:
        assert refusal(command_line.refuse_unknown_run, line) == said.format(", ".join(given))


@pytest.mark.parametrize("name", ["own.json", "rate=0.001.json", "my own, größer.json"])
def test_a_run_of_a_file_of_ones_own_is_known(name, tmp_path):
    own = tmp_path / name
    own.write_text(json.dumps({"twice": ["%training", "%training"]}))
    files = [str(BUNDLE / "configs/train.json"), str(own)]
    command_line.refuse_unknown_run(["run", "twice", "--config_file", str(files)])


@pytest.mark.parametrize(
    "words, lost",
    [
        (["--norm", "None"], True),
        (["--norm=None"], True),
        (["--network_def::norm", "None"], True),
        (["--norm", "$None"], False),
        (["--norm", "None", "--norm", "batch"], False),
        (["--seed", "None", "--epochs", "3"], True),
        (["--device", "cpu"], False),
    ],
)
def test_an_option_none_that_monai_would_leave_out_is_refused(words, lost):
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", "recipe_cardiac_2d.json")]
    line = ["run", "training", "--config_file", str(files), *words]
    if lost:
        assert refusal(command_line.refuse_lost_none, line).endswith("'$None'")
    else:
        command_line.refuse_lost_none(line)


@pytest.mark.parametrize(
    "given, lost",
    [
        ({"network_def::features": "24", "network_def": "%configs/networks.json::segresnet"}, True),
        ({"network_def": "%configs/networks.json::segresnet", "network_def#features": "24"}, True),
        ({"train::trainer::amp": True, "train": {}}, True),
        ({"optimizer": "{'_target_': 'torch.optim.SGD'}", "optimizer::momentum": "0.9"}, False),
        ({"network_def::features": "24", "network": "$@network_def"}, False),
    ],
)
def test_a_part_of_what_is_replaced_as_a_whole_is_refused(given, lost):
    if lost:
        part, whole = sorted((name.replace("#", "::") for name in given), key=len, reverse=True)
        said = refusal(command_line.refuse_lost_parts, given)
        assert said.startswith(f"--{part}: --{whole} replaces all of {whole} by {given[whole]}")
    else:
        command_line.refuse_lost_parts(given)


def test_an_args_file_is_set_before_the_command_line(tmp_path, monkeypatch):
    file = tmp_path / "f.json"
    file.write_text(json.dumps({"loss": {"_target_": "DiceCELoss"}, "network_def::features": 8}))
    words = as_bundle_command(*RUN, "--config_file", str(BUNDLE / "configs/train.json"), "--args_file", str(file))
    monkeypatch.setattr(sys, "argv", [*words, "--loss::softmax", "True"])
    command_line.check_command_line()
    monkeypatch.setattr(sys, "argv", [*words, "--network_def", "%configs/networks.json::segresnet"])
    assert "--network_def replaces all" in refusal(command_line.check_command_line)


def test_an_id_of_a_file_of_ones_own_is_known(tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"voxels": [1, 1, 1]}))
    words = ["run", "training", "--config_file", str([str(own)]), "--voxels", "[2,2,2]"]
    command_line.refuse_unknown_ids(words)
    assert "no configuration" in refusal(command_line.refuse_unknown_ids, [*words[:2], *words[4:]])


def test_a_file_in_place_of_a_folder_is_one_line(tmp_path, network):
    (tmp_path / "file").touch()
    for places, name in ((["file"], "output_dir"), (["a", "file"], "ckpt_dir")):
        output_dir, *ckpt_dir = (str(tmp_path / place) for place in places)
        said = refusal(session.start, output_dir, "training", network, [32, 32, 16], *ckpt_dir)
        assert f"file: --{name} is a file, expected a folder" in said
        session.finish()


@pytest.mark.parametrize("form", [["--args_file", "{}"], ["--args_file={}"]])
def test_ids_of_an_args_file(form, tmp_path):
    file = tmp_path / "f.json"
    words = [*RUN, *(word.format(file) for word in form)]
    file.write_text(json.dumps({"epochs": 3, "config_file": "configs/train.json"}))
    command_line.refuse_unknown_ids(words)
    file.write_text(json.dumps({"epochs": 3, "batchsize": 4}))
    assert refusal(command_line.refuse_unknown_ids, words).endswith("did you mean --batch_size?")


@pytest.mark.parametrize(
    "line", [[], ["ckpt_export", "--epoch", "5"], ["-q", "--epoch", "5"], ["tests/run", "--epoch"]]
)
def test_other_command_lines_are_left_alone(line):
    command_line.refuse_unknown_ids(line)


def test_every_target_of_the_configurations_can_be_asked():
    known, components = command_line.known_ids()
    assert {"epochs", "train::trainer::max_epochs", "deterministic_chain::0"} <= known
    assert "scripts.networks.improved_unet.ImprovedUNet" in components["network_def"]
    for name in components:
        assert not command_line.is_argument(f"{name}::no_such_argument", components)


def test_the_command_line_is_read_first(monkeypatch):
    monkeypatch.setattr(sys, "argv", as_bundle_command(*RUN, "--epoch", "5"))
    assert "--epochs" in refusal(command_line.check_command_line)


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
        assert str(tmp_path / "a") in message and "another run" in message and "--output_dir" in message
        assert not (tmp_path / "a" / "training.log").exists()
        start(tmp_path / "b", network)
        start(tmp_path / "a", network, log_name="evaluation")
    start(tmp_path / "a", network)


def test_runs_that_keep_the_same_record_do_not_share_a_folder(tmp_path, network):
    """Each keeps run.json, which another one would begin anew."""
    with FileLock(tmp_path / ".results.lock"):
        for name in ("inference", "evaluation", "next"):
            assert "another run is using this folder" in refusal(start, tmp_path, network, log_name=name)
        start(tmp_path, network)


def test_two_runs_do_not_share_their_checkpoints(tmp_path, network):
    (tmp_path / "models").mkdir()
    with FileLock(tmp_path / "models" / ".training.lock"):
        message = refusal(start, tmp_path / "a", network, ckpt_dir=tmp_path / "models")
        assert str(tmp_path / "models") in message and "--ckpt_dir" in message
    start(tmp_path / "models", network, ckpt_dir=tmp_path / "models")  # one folder for both is no conflict


@pytest.mark.parametrize("end", [session.finish, None])
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


def test_other_processes_check_but_neither_lock_nor_log(tmp_path, network, monkeypatch):
    monkeypatch.setattr(session, "is_main_process", lambda: False)
    start(tmp_path / "out", network)
    assert not (tmp_path / "out").exists()
    refusal(start, tmp_path, network, spatial_size=[30, 32, 16])


@pytest.mark.parametrize(
    "name, todo", [("inference", "add configs/multi_gpu_inference.json at the end"), ("next", "without the launcher")]
)
def test_processes_that_do_not_know_of_each_other_are_refused(name, todo, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert todo in refusal(session.refuse_strangers, name)


@pytest.mark.parametrize(
    "load, policy, reported", [(3.0, None, True), (0.4, None, False), (3.0, "PASSIVE", False), (3.0, "ACTIVE", False)]
)
def test_a_busy_machine_is_reported(load, policy, reported, monkeypatch, caplog):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    with caplog.at_level(logging.INFO):
        session.warn_if_machine_is_busy()
    assert ("load 3.0 on 2 cores" in caplog.text) == reported


def test_a_traceback_is_asked_for(monkeypatch):
    labelling = ["-m", "train", "-r", "{}"]  # a task that MONAI Label's server has started
    training = ["run", "training", "--config_file", str(BUNDLE / "configs" / "train.json")]
    for line, debug, replaced in (
        (training, False, True), (training, True, True), (["ckpt_export"], False, False), (labelling, False, True)
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", as_bundle_command(*line))
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        command_line.check_command_line(debug)
        assert (getattr(sys.excepthook, "func", None) is crash.report_crash) == replaced
        if replaced:
            assert sys.excepthook.keywords == {"debug": debug}


def test_a_mistake_is_one_line_and_debug_prints_the_traceback_of_a_crash(capsys):
    for error, debug in ((UserError("epochs is 0"), True), (ValueError("x"), True), (ValueError("x"), False)):
        wrapped = RuntimeError("Failed to instantiate")
        wrapped.__cause__ = error
        crash.report_crash(type(wrapped), wrapped, None, debug)
        said = capsys.readouterr().err.splitlines()
        assert (said == ["epochs is 0"]) == isinstance(error, UserError)
        assert isinstance(error, UserError) or ("Failed to instantiate" in said[-1]) == debug


def test_the_lines_about_an_error(capsys, tmp_path, network):
    start(tmp_path, network)
    try:
        raise RuntimeError("while doing a") from ValueError("the real reason")
    except RuntimeError as error:
        crash.report_crash(type(error), error, error.__traceback__)
    session.finish()
    assert capsys.readouterr().err.splitlines() == [
        "ValueError: the real reason",
        f"The traceback is in {tmp_path / 'training.log'}; --debug True prints it.",
    ]
    assert "while doing a" in (tmp_path / "training.log").read_text()
    crash.report_crash(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


@pytest.mark.parametrize(
    "error, reason", [(UserError("epochs is 0"), "epochs is 0"), (ValueError("x"), "ValueError: x")]
)
@pytest.mark.parametrize("debug", [True, False])
def test_the_reason_goes_to_a_file_if_one_is_asked_for(error, reason, debug, tmp_path, monkeypatch, capsys):
    file = tmp_path / "error.json"
    crash.report_crash(type(error), error, None, debug)
    assert not file.exists()
    monkeypatch.setenv(crash.ERROR_FILE, str(file))
    crash.report_crash(type(error), error, None, debug)
    assert json.loads(file.read_text()) == {"reason": reason}
    monkeypatch.setenv(crash.ERROR_FILE, "/dev/null/error.json")  # a folder that can't be written hides no error
    capsys.readouterr()
    crash.report_crash(type(error), error, None, debug)
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "target, given, line",
    [
        (ImprovedUNet, {"features": "abc"}, "ImprovedUNet: features is 'abc', expected int"),
        ("scripts.networks.improved_unet.ImprovedUNet", {"levels": 2}, "ImprovedUNet: given levels 2"),
        ("monai.losses.DiceCELoss", {"lambda_dice": "much"}, "DiceCELoss: lambda_dice is 'much', expected float"),
        ("torch.optim.Adam", {"params": [torch.zeros(1)], "lr": -1}, "Adam: given lr -1"),  # a tensor is not plain
        ("torch.optim.NoSuch", {}, ""),
        ("os.listdir", {"path": "/nowhere/at/all"}, ""),
    ],
)
def test_the_component_that_can_not_be_made(target, given, line):
    with pytest.raises(Exception, match="instantiate|locate") as caught:
        instantiate(target, "default", **given)
    assert crash.failed_component(caught.value.__traceback__) == line


MISTAKES = {  # words of the command line: what the message must name
    "--seed abc": "seed is 'abc': expected a whole number",
    "--seed -1": "seed is -1: expected a whole number from 0",
    "--seed 1.5": "seed is 1.5: expected a whole number",
    "--seed [1]": "seed is [1]: expected a whole number",
    "--features abc": "features is 'abc': expected a whole number from 1",
    "--features 2.5": "features is 2.5: expected a whole number from 1",
    "--network_def::features abc": "features is 'abc', expected int",
    "--network_def::features 2.5": "features is 2.5, expected int",
    "--network_def::levels 2": "levels is 2, expected 3 or more",
    "--network_def::norm nope": "norm 'nope'",
    "--class_names prostate": "class_names is 'prostate': expected a list of 2 or more different texts",
    "--spatial_size 5": "spatial_size is 5: expected a list of 2 to 3 whole numbers",
    "--spatial_size [30,32,16]": "spatial_size: spatial size (30, 32, 16) does not fit",
    "--device gpu7": "device is 'gpu7': expected one of this machine (cpu",
    "--device $torch.device('gpu7')": "gpu7",
    "--dataset_dir /nowhere": "/nowhere: dataset_dir does not exist",
    "--amp maybe": "amp is 'maybe': expected True or False",
    "--debug maybe": "debug is 'maybe': expected True or False",
    "--epoch 5": "--epoch: no configuration of this bundle knows this id; did you mean --epochs?",
}
ONLY_TRAINING = {
    "--fold 9": "fold is 9, but this list was made without folds",
    "--epochs 2.5": "epochs is 2.5: expected a whole number",
}
CASES = [("training", ["train.json"], words, named) for words, named in (MISTAKES | ONLY_TRAINING).items()]
CASES += [
    ("inference", ["inference.json"], "--features abc", MISTAKES["--features abc"]),
    ("inference", ["inference.json"], "--network_def::features abc", MISTAKES["--network_def::features abc"]),
    ("evaluating", ["train.json", "evaluate.json"], "--seed abc", MISTAKES["--seed abc"]),
    ("evaluating", ["train.json", "evaluate.json"], "--keep_largest yes", "keep_largest is 'yes': expected True"),
]
UNFORESEEN = ("training", ["train.json"], "--loss::lambda_dice much", "lambda_dice")
CASES.append(UNFORESEEN)
COMMANDS = """
import gc, json, os, runpy, sys
import monai.bundle, monai.engines, monai.networks.nets, scripts.run.session, scripts.data.datalist
gc.freeze()  # three times quicker to end
for number, line in enumerate(json.load(open(sys.argv[1]))):
    if os.fork() == 0:
        os.dup2(os.open(f"{sys.argv[2]}/{number}", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv[1:] = line
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        sys.exit()
    print("status", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def refused(phantoms, tmp_path_factory):
    """`python -m monai.bundle` with every mistake, in processes of their own that share the imports: status, lines, and
    the folder of the output."""
    folder, lines = tmp_path_factory.mktemp("refused"), []
    for number, (verb, files, words, _) in enumerate(CASES):
        files = [f"configs/{file}" for file in (*files, "demo.json")]
        given = {"--dataset_dir": phantoms, "--output_dir": folder / f"out{number}", "--ckpt_dir": folder / "models"}
        given |= {"--spatial_size": [32, 32, 16], "--num_workers": 0} | dict([words.split(" ")])
        lines.append(["run", verb, "--config_file", str(files), *(str(w) for pair in given.items() for w in pair)])
    (folder / "lines.json").write_text(json.dumps(lines))
    command = [sys.executable, "-W", "ignore", "-c", COMMANDS, str(folder / "lines.json"), str(folder)]
    done = subprocess.run(command, cwd=BUNDLE, capture_output=True, text=True, check=False)
    statuses = re.findall(r"^status (-?\d+)$", done.stdout, re.MULTILINE)
    assert len(statuses) == len(CASES), done.stderr
    said = [(folder / str(number)).read_text().splitlines() for number in range(len(CASES))]
    lines_said = ([line for line in text if line.strip()] for text in said)
    return [(int(status), text, folder / f"out{n}") for n, (status, text) in enumerate(zip(statuses, lines_said))]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{verb} {words}" for verb, _, words, _ in CASES])
def test_a_mistake_takes_three_lines_at_most(number, refused):
    status, said, _ = refused[number]
    assert status == 1 and 1 <= len(said) <= 3, said
    assert CASES[number][3] in "\n".join(said)
    foreseen = "--debug True" not in said[-1]
    assert len(said) == 1 or not foreseen


def test_an_error_that_nobody_foresaw_takes_two_lines(refused):
    """The traceback is in the log file, and on the screen only if asked for."""
    _, said, folder = refused[CASES.index(UNFORESEEN)]
    assert "--debug True" in said[-1] and str(folder / "training.log") in said[-1]
    assert "Traceback" in (folder / "training.log").read_text()


def test_a_wrong_seed_is_refused_from_another_folder(tmp_path):
    """Where `initialize` could not import a script of the bundle yet."""
    config = str(BUNDLE / "configs" / "train.json")
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training", "--config_file", config]
    done = subprocess.run([*command, "--seed", "abc"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.splitlines()[0].startswith("seed is 'abc': expected a whole number")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
