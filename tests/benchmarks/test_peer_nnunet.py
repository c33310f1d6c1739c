"""The script that trains nnU-Net beside ours: what it writes for nnU-Net, its clock, commands, table and picture."""

import csv
import importlib
import json
import os
import sys
from argparse import Namespace
from types import ModuleType, SimpleNamespace

import pytest
from conftest import ROOT
from helpers import stubs
from PIL import Image

NAMES = [f"hippocampus_{n:03}" for n in range(1, 9)]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return importlib.import_module("peer_nnunet")


@pytest.fixture
def given(tmp_path):
    """Eight cases, three of them in fold 0, and an environment of nnU-Net without contents."""
    data = stubs(tmp_path / "data", [f"{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr") for name in NAMES])
    (data / "folds.json").write_text(json.dumps({"fold0": NAMES[:3]}))
    programs = [f"nnUNetv2_{what}" for what in ("plan_and_preprocess", "train", "predict")]
    python = stubs(tmp_path / "bin", programs) / "python"
    return Namespace(data=data, output=tmp_path / "out", minutes=2.0, seed=3, options={}, peer_python=str(python))


@pytest.fixture
def ran(script, monkeypatch):
    """The commands that would run, by title."""
    made = {}
    monkeypatch.setattr(script, "execute", lambda title, typed: made.update({title: typed}) or True)
    return made


def write_clock(script, output, rows):
    file = output / "nnunet" / "results" / script.DATASET / script.MODEL / "clock.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("iteration,seconds,loss\n" + "".join(f"{n},{seconds},0.5\n" for n, seconds in rows))


def write_network(output, number, epochs, trained=True):
    """A network's folder; an epoch is its seconds and its validation Dice, or nothing."""
    folder = output / "ours" / f"network_{number}"
    (folder / "run").mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{i},{seconds},{dice}\n" for i, (seconds, dice) in enumerate(epochs, start=1))
    (folder / "run" / "history.csv").write_text(f"epoch,seconds,val_mean_dice\n{rows}")
    if trained:
        (folder / "trained.json").write_text("{}")


def write_metrics(folder, values):
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        {
            "case": name,
            "patient": name,
            "metrics": {str(label): {"Dice": value, "n_ref": 9} for label in (1, 2)},
            "status": {"1": "scored", "2": "scored"},
        }
        for name, value in zip(NAMES, values)
    ]
    total = {"mean": sum(values) / len(values), "ci": [min(values), max(values)], "n": len(values)}
    content = {"class_names": ["background", "anterior", "posterior"], "metric_per_case": cases, "tolerance_mm": 2.0}
    content |= {"has_truth": True, "foreground": total, "about": [["Versions", "ours 1.0"]]}
    (folder / "metrics.json").write_text(json.dumps(content))


def test_nnunets_data_set_is_links_under_its_names(script, given, tmp_path):
    raw = tmp_path / "raw"
    for _ in range(2):  # what was begun before is completed
        script.write_raw(given.data, raw)
    images = sorted((raw / "imagesTr").iterdir())
    assert [file.name for file in images] == [f"{name}_0000.nii.gz" for name in NAMES]
    assert images[0].resolve() == (given.data / "imagesTr" / f"{NAMES[0]}.nii.gz").resolve()
    assert (raw / "labelsTr" / f"{NAMES[7]}.nii.gz").is_symlink()
    about = json.loads((raw / "dataset.json").read_text())
    assert about["numTraining"] == 8 and list(about["labels"]) == ["background", "anterior", "posterior"]


def test_nnunet_trains_on_our_split_and_goes_on(script, given, monkeypatch):
    ran, prepared = [], given.output / "nnunet" / "preprocessed" / script.DATASET

    def execute(title, typed):
        ran.append((typed.split("nnUNetv2_")[1], os.environ["nnUNet_n_proc_DA"], os.environ["PEER_SECONDS"]))
        prepared.mkdir(parents=True, exist_ok=True)
        return True

    monkeypatch.setattr(script, "execute", execute)
    script.train_peer(given)
    plan, train = ran
    assert plan[0].startswith("plan_and_preprocess -d 4 -c 3d_fullres") and plan[1] == "1"
    assert train == ("train 4 3d_fullres 0 -tr TimedTrainer -device cpu --c", "0", "120.0")
    (split,) = json.loads((prepared / "splits_final.json").read_text())
    assert split == {"train": NAMES[3:], "val": NAMES[:3]}
    assert (given.output / "nnunet" / "raw" / script.DATASET / "dataset.json").is_file()
    script.train_peer(given)
    assert [command.split()[0] for command, *_ in ran[2:]] == ["train"]  # what is prepared stays so
    model = given.output / "nnunet" / "results" / script.DATASET / script.MODEL
    stubs(model, ["checkpoint_final.pth"])
    script.train_peer(given)
    assert len(ran) == 3
    with pytest.raises(SystemExit, match="minutes.*expected.*move the folder away"):
        script.train_peer(Namespace(**{**vars(given), "minutes": 3.0}))


@pytest.mark.parametrize("python", [None, "nowhere/bin/python"])
def test_without_nnunet_one_line_says_how_to_install_it(script, given, python):
    given.peer_python = python
    with pytest.raises(SystemExit, match=r"not there; .*pip install torch==2.13.0 nnunetv2.*--peer_python") as ended:
        script.train_peer(given)
    assert len(str(ended.value).splitlines()) == 1


def test_a_core_that_is_not_there_is_refused(script, monkeypatch):
    kept = []
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: kept.append(cores))
    with pytest.raises(SystemExit, match=r"--core 2: expected one of \[0, 1\]"):
        script.use_one_core(2)
    script.use_one_core(1)
    assert kept == [{1}] and os.environ["OMP_NUM_THREADS"] == "1"


def test_our_networks_are_trained_as_long_as_the_next_one_fits(script, given, monkeypatch):
    seeds = []

    def train_once(folder, title, train, noted, deadline):
        if not (folder / "trained.json").is_file():
            seeds.append(train.split("--seed ")[1].split()[0])
            write_network(given.output, len(seeds), [(30, 0.5), (19, 0.6)])
        return True

    monkeypatch.setattr(script, "train_once", train_once)
    for _ in range(2):  # the second time nothing is left to do
        script.train_ours(given)
    assert seeds == ['"3"', '"4"']  # 49 s each of 120: a third one would not be finished
    assert script.ends(given.output) == [49, 98]
    assert 0 <= script.share(given.output / "ours")
    listed = json.loads((given.output / "ours" / "network_2" / "datalist.json").read_text())
    assert len(listed["training"]) == 5 and len(listed["validation"]) == 3
    with pytest.raises(SystemExit, match="expected"):
        script.train_ours(Namespace(**{**vars(given), "options": {"features": "4"}}))


def test_scoring_predicts_twice_and_averages_what_is_finished(script, given, ran):
    script.write_lists(given)
    (given.output / "nnunet").mkdir()
    (given.output / "ours").mkdir()
    script.score_peer(given, 2)
    given.options = {"features": "4", "epochs": "2"}
    script.score_ours(given, 2)
    mirrored, scored, plain, _, ours = ran.values()
    assert "checkpoint_mark_2.pth" in mirrored and mirrored + " --disable_tta" == plain.replace("plain_2", "mirrored_2")
    assert "-m scripts.report evaluate" in scored and "['background', 'anterior', 'posterior']" in scored
    assert "network_1/models/model.pt" in ours and "network_2/models/model.pt" in ours
    assert "configs/ensemble.json" in ours and '--features "4"' in ours and "--epochs" not in ours
    images = sorted(file.name for file in (given.output / "nnunet" / "images").iterdir())
    assert images == [f"{name}_0000.nii.gz" for name in NAMES[:3]]
    for kind in script.TESTED:
        write_metrics(given.output / "nnunet" / f"{kind}_2", [0.5])
    ran.clear()
    script.score_peer(given, 2)
    assert not ran  # what is scored isn't predicted again


@pytest.fixture
def results(script, given, ran, monkeypatch):
    """Of two minutes: nnU-Net improves, our first network is finished at 50 s and the second at 100 s."""
    monkeypatch.setattr(script, "about", lambda *_: ABOUT)
    script.write_lists(given)
    write_clock(script, given.output, [(1, 29.9), (2, 30.5), (3, 61.0), (4, 95.0), (5, 121.0)])
    for mark, value in enumerate((0.3, 0.5, 0.6, 0.7), start=1):
        write_metrics(given.output / "nnunet" / f"mirrored_{mark}", [value, value + 0.1])
        write_metrics(given.output / "nnunet" / f"plain_{mark}", [value, value])
    write_network(given.output, 1, [(20, 0.4), (5, ""), (25, 0.7)])
    write_network(given.output, 2, [(50, 0.8)])
    stubs(given.output / "nnunet" / "results" / script.DATASET / script.MODEL, ["checkpoint_final.pth"])
    for count, value in ((1, 0.75), (2, 0.85)):
        write_metrics(given.output / "ours" / f"averaged_{count}" / "run", [value, value])
    return script.score(given)


ABOUT = {"peer": "nnunetv2 2.8.1", "plan": "batches of 9", "peer_processor": "CPU A", "peer_share": 0.97}
ABOUT |= {"ours": "ours 1.0", "ours_processor": "CPU A", "ours_share": None}


def test_both_sides_are_taken_at_the_same_time(results):
    first, second, third, fourth = results["rows"]
    assert [row["minutes"] for row in results["rows"]] == [0.5, 1, 1.5, 2]
    assert [row["peer"]["iterations"] for row in results["rows"]] == [2, 3, 4, 5]
    assert first["ours"] == {"networks": 0, "epoch": 1, "seconds": 20, "mean": 0.4} and "difference" not in first
    assert [row["ours"]["networks"] for row in (second, third, fourth)] == [1, 1, 2]
    assert second["difference"]["mean"] == pytest.approx(0.75 - 0.55)
    assert second["difference"]["ci"] == pytest.approx([0.15, 0.25])  # case by case: 0.25 and 0.15


def test_a_network_that_ends_after_the_time_does_not_count(script, results, given):
    write_network(given.output, 3, [(21, 0.9)])
    assert script.score(given)["ours"] == results["ours"] and len(results["ours"]) == 2


def test_what_can_not_be_scored_is_said_in_one_line(script, results, given):
    with pytest.raises(SystemExit, match=r"minutes.*expected.*move the folder away"):
        script.begin(given, "ours")
        script.score(Namespace(**{**vars(given), "minutes": 1.0}))
    (given.output / "ours" / "network_1" / "trained.json").unlink()
    with pytest.raises(SystemExit, match="trained.json: not there; give the command with --only ours first"):
        script.score(given)


def test_the_table(script, results):
    lines = script.table(results["rows"]).splitlines()
    assert (
        lines[2]
        == "| 0.5 | 2 | 0.3500 (0.300 to 0.400) | 0.3000 (0.300 to 0.300) | network 1 after epoch 1 | 0.4000 |  |"
    )
    assert lines[3].endswith("| 1 network | 0.7500 (0.750 to 0.750) | +0.2000 (+0.1500 to +0.2500) |")
    assert "| 2 networks |" in lines[5]


def test_the_picture_and_the_files_beside_it(script, results, given):
    curves = importlib.import_module("peer_results").curves(results)
    assert curves["validation"] == [(pytest.approx(1 / 3), 0.4), (pytest.approx(50 / 60), 0.7)]
    assert curves["ours"] == [(pytest.approx(50 / 60), 0.75), (pytest.approx(100 / 60), 0.85)]
    assert curves["mirrored"][-1] == (pytest.approx(121 / 60), pytest.approx(0.75))
    script.leave(results, given.output)
    with Image.open(given.output / "peer_nnunet.png") as picture:
        assert picture.width > 600 and len(picture.convert("RGB").getcolors(10**6)) > 50
    text = (given.output / "peer_nnunet.md").read_text()
    assert "24.2 s an iteration; CPU A, 97% of one core" in text and "Research use only" in text
    assert json.loads((given.output / "peer_nnunet.json").read_text())["rows"] == results["rows"]


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


class StandIn:
    """nnU-Net's trainer as far as ours relies on it: an iteration of 7 s, checkpoints that count epochs from 1."""

    initial_lr, clock, killed_at = 0.01, Clock(), 0

    def __init__(self, folder):
        self.output_folder, self.current_epoch, self.rates = str(folder), 0, []
        _, self.lr_scheduler = self.configure_optimizers()
        self.network, self.dataloader_train = SimpleNamespace(train=lambda: None), iter(int, 1)

    def configure_optimizers(self):
        return "optimizer", None

    def on_train_start(self):
        self.clock.now += 100  # the start doesn't count

    def train_step(self, batch):
        self.clock.now += 7
        if self.current_epoch + 1 == self.killed_at:
            raise KeyboardInterrupt
        return {"loss": 0.5}

    def save_checkpoint(self, filename):
        self.clock.now += 50  # nor do checkpoints
        with open(filename, "w") as file:
            file.write(str(self.current_epoch + 1))

    def on_train_end(self):
        self.current_epoch -= 1
        self.save_checkpoint(f"{self.output_folder}/checkpoint_final.pth")


class Schedule(list):
    """Notes what the learning rate was asked for."""

    def __init__(self, optimizer, rate, length):
        self.length = length

    def step(self, position):
        self.append(position / self.length)


@pytest.fixture
def trainer(monkeypatch, tmp_path):
    """Our trainer on the stand-in; the function makes one that goes on from what the last one has saved."""
    for name in ("", ".training", ".training.lr_scheduler", ".training.nnUNetTrainer"):
        monkeypatch.setitem(sys.modules, f"nnunetv2{name}", ModuleType(f"nnunetv2{name}"))
    for name, thing in (
        ("lr_scheduler.polylr", {"PolyLRScheduler": Schedule}),
        ("nnUNetTrainer.nnUNetTrainer", {"nnUNetTrainer": StandIn}),
    ):
        monkeypatch.setitem(sys.modules, f"nnunetv2.training.{name}", SimpleNamespace(**thing))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "nnunet_trainer"))
    monkeypatch.delitem(sys.modules, "timed_trainer", raising=False)
    module = importlib.import_module("timed_trainer")
    monkeypatch.setattr(module, "time", StandIn.clock)
    monkeypatch.setenv("PEER_SECONDS", "200")

    def make(killed_at=0):
        made = module.TimedTrainer(tmp_path)
        made.killed_at, saved = killed_at, tmp_path / "checkpoint_latest.pth"
        made.current_epoch = int(saved.read_text()) if saved.is_file() else 0
        return made

    yield make
    monkeypatch.delitem(sys.modules, "timed_trainer", raising=False)


def rows(folder):
    with (folder / "clock.csv").open(newline="") as file:
        return [(int(row["iteration"]), float(row["seconds"])) for row in csv.DictReader(file)]


def test_nnunets_training_ends_by_the_clock(trainer, tmp_path):
    made = trainer()
    made.run_training()
    assert rows(tmp_path) == [(n, 7 * n) for n in range(1, 30)]  # 203 s: the iteration that passes the end is the last
    assert made.lr_scheduler == pytest.approx([7 * n / 200 for n in range(29)])
    kept = {file.stem: int(file.read_text()) for file in tmp_path.glob("checkpoint_*.pth")}
    marks = {"checkpoint_mark_1": 8, "checkpoint_mark_2": 15, "checkpoint_mark_3": 22, "checkpoint_mark_4": 29}
    assert kept == marks | {"checkpoint_final": 29, "checkpoint_latest": 26}


@pytest.mark.parametrize("killed_at", [5, 13, 27])
def test_a_killed_training_of_nnunets_goes_on_with_its_clock(trainer, tmp_path, killed_at):
    first = trainer(killed_at)
    with pytest.raises(KeyboardInterrupt):
        first.run_training()
    done = killed_at - 1
    assert len(rows(tmp_path)) == done
    second = trainer()
    saved = second.current_epoch
    assert saved == {5: 0, 13: 9, 27: 26}[killed_at]  # a checkpoint a minute
    second.run_training()
    assert rows(tmp_path) == [(n, 7 * n) for n in range(1, 30)] and len(second.lr_scheduler) == 29 - saved
