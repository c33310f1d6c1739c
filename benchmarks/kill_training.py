"""How much of a training run survives what may befall it: kills, a full disk, flipped bits.

    python benchmarks/kill_training.py [--kills 20] [--save_kills 100] [--disk_full 10] [--flips 300] [--no_overhead]

Runs are killed by SIGKILL at random moments and resumed until they are through; weights, optimiser, best score,
counters and history must then equal those of a run that nobody touched, to the last bit. A shorter form of this is in
tests/training/test_survival.py. Everything happens on tiny phantoms in a temporary folder, but for the overhead at
full width.
"""

import argparse
import errno
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from common import BUNDLE
from monai.bundle import ConfigWorkflow

from scripts.core.errors import UserError
from scripts.networks.improved_unet import ImprovedUNet
from scripts.phantoms import generate
from scripts.training.checkpoint_files import newest_readable, read_checkpoint, write_checkpoint
from scripts.training.checkpoints import LAST, PREVIOUS
from scripts.training.weights import read_weights
from scripts.training.weights_info import info_file, write_weights

TINY = {"spatial_size": [32, 32, 16], "features": 4, "cache_workers": 1, "show_progress": False}
KILLED = -9
STATES = (LAST, PREVIOUS)
KEYS = ["model", "epoch"]
forked = multiprocessing.get_context("fork")  # everything is imported already: a child starts in a moment


def train(folder: str, overrides: dict) -> None:
    """One run of the shipped training, or what is left of it."""
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(Path(folder) / "console.txt", "a", buffering=1)  # noqa: SIM115 (until the process ends)
    paths = {"output_dir": folder, "ckpt_dir": f"{folder}/models", "bundle_root": str(BUNDLE), "resume": True}
    made = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        workflow_type="train",
        run_id="training",
        logging_file=False,
        **{**TINY, **paths, **overrides},
    )
    made.initialize()
    made.run()
    made.finalize()


def start(folder: Path, **overrides) -> multiprocessing.Process:
    folder.mkdir(parents=True, exist_ok=True)
    process = forked.Process(target=train, args=(str(folder), overrides))
    process.start()
    return process


def train_through(folder: Path, **overrides) -> None:
    process = start(folder, **overrides)
    process.join()
    assert process.exitcode == 0, (folder / "console.txt").read_text()[-2000:]


def killed_and_resumed(folder: Path, kills: int, longest: float, seed: int, **overrides) -> int:
    """Kills a run up to `kills` times, each after a random part of `longest` seconds, then lets it end.

    Returns:
        How many kills hit a run at work.
    """
    moments = random.Random(seed)
    hits = 0
    for _ in range(kills):
        process = start(folder, **overrides)
        process.join(moments.uniform(0, longest))
        process.kill()
        process.join()
        if process.exitcode not in (0, KILLED):
            raise AssertionError((folder / "console.txt").read_text()[-2000:])
        hits += process.exitcode == KILLED
        if process.exitcode == 0:
            break
    train_through(folder, **overrides)
    return hits


def differences(one: Path, two: Path) -> list[str]:
    """What two runs do not share in their best and their last checkpoint.

    Times are left aside, and how many epochs a run was meant to have: a broken one is continued with fewer or more.
    """

    def content(folder: Path, name: str) -> dict:
        file = folder / "models" / name
        return read_checkpoint(file) if name in STATES else vars(read_weights(file)) | {"files": None}

    found = [
        f"{name} {text}" for name in ("model.pt", *STATES) for text in unlike(content(one, name), content(two, name))
    ]
    return [text for text in found if " /identity/knobs/epochs:" not in text]


def unlike(a, b, name: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{name}: other keys"]
        return [text for key in a if key != "seconds" for text in unlike(a[key], b[key], f"{name}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [text for i, (x, y) in enumerate(zip(a, b)) for text in unlike(x, y, f"{name}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    return [] if a == b else [f"{name}: {a} and {b}"]


def state(epoch: int, size: int = 100_000) -> dict:
    return {"model": {"weight": torch.full((size,), float(epoch))}, "epoch": epoch}


def save(folder: Path, epoch: int, size: int = 100_000) -> None:
    """As an epoch ends: the best weights with their description, then the checkpoint to resume from."""
    write_weights(state(epoch, size)["model"], {"epoch": epoch}, folder / "model.pt")
    write_checkpoint(state(epoch, size), folder / LAST, folder / PREVIOUS)


def save_for_ever(folder: str, first: int, done) -> None:
    for epoch in range(first, 1_000_000):
        save(Path(folder), epoch)
        done.value = epoch


def kills_while_saving(folder: Path, kills: int, seed: int, longest: float = 0.15) -> int:
    """Kills a process that does nothing but save; all in one folder, so that what a kill leaves meets the next one.

    Returns:
        How often complete files were there afterwards, not older than the last ones that were completely saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moments, held = random.Random(seed), 0
    done = forked.Value("l", 0, lock=False)
    for epoch in (1, 2):
        save(folder, epoch)
    done.value = 2
    for _ in range(kills):
        before = done.value
        process = forked.Process(target=save_for_ever, args=(str(folder), before + 1, done))
        process.start()
        while done.value == before and process.is_alive():  # it is at work
            time.sleep(0.001)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        process.join()
        held += holds(folder, done.value)
    return held


def holds(folder: Path, epoch: int) -> bool:
    """Whether weights and a checkpoint are complete, of one epoch each, described as such, and not older than this."""
    try:
        _, last = newest_readable([file for name in STATES if (file := folder / name).is_file()], KEYS)
        best = read_weights(folder / "model.pt")
    except UserError:
        return False
    found = [(last["epoch"], last["model"]), (best.info["epoch"], best.networks[0])]
    return not best.notes and all(of >= epoch and bool((weights["weight"] == of).all()) for of, weights in found)


def write_with_a_limit(folder: str, limit: int) -> None:
    """A save that the kernel cuts off after `limit` bytes, as a full disk or a quota does."""
    sys.stderr = open(Path(folder) / "message.txt", "w")  # noqa: SIM115 (until the process ends)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_checkpoint(state(3), Path(folder) / STATES[0], Path(folder) / STATES[1])
    except UserError as error:
        sys.exit(str(error))


def full_disks(folder: Path, points: int) -> int:
    """Saves cut off after a share of their bytes, up to all but one; how often a line said so and all was as before."""
    folder.mkdir(parents=True, exist_ok=True)
    held = 0
    for epoch in (1, 2):
        write_checkpoint(state(epoch), folder / STATES[0], folder / STATES[1])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    size = (folder / STATES[0]).stat().st_size
    for point in range(points):
        limit = (point + 1) * (size - 1) // points  # never so small that the message finds no room
        process = forked.Process(target=write_with_a_limit, args=(str(folder), limit))
        process.start()
        process.join()
        message = (folder / "message.txt").read_text()
        (folder / "message.txt").unlink()
        told = process.exitcode == 1 and len(message.splitlines()) == 1 and f"{size:,} bytes are needed" in message
        held += told and {file.name: file.read_bytes() for file in folder.iterdir()} == before
    return held


def failing_calls(folder: Path, points: int) -> int:
    """Saves in which the disk is full at the first, second, ... call that forces data to disk or renames."""
    folder.mkdir(parents=True, exist_ok=True)
    held = 0
    for epoch in (1, 2):
        save(folder, epoch)
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for point in range(1, points + 1):
        calls = 0

        def full(name: str, *args):
            nonlocal calls
            calls += 1
            if calls == point:  # noqa: B023 (used in this turn only)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*args)

        told = False
        try:
            for name in real:
                setattr(os, name, lambda *args, name=name: full(name, *args))
            save(folder, 3)
        except UserError as error:
            told = len(str(error).splitlines()) == 1 and "No space left" in str(error)
        finally:
            for name, function in real.items():
                setattr(os, name, function)
        held += told and holds(folder, 2)
        save(folder, 2)
    return held


def flips(folder: Path, count: int, seed: int) -> tuple[int, int, int]:
    """Single bits turned around in a file of weights.

    Returns:
        How many were refused with `model.json` beside the file; how many without it; and how many of the others
        were read without it as exactly the weights that were written.
    """
    network = ImprovedUNet(features=1, levels=3, out_channels=2)
    described, bare = folder / "model.pt", folder / "bare" / "model.pt"
    write_weights(network.state_dict(), {}, described)
    whole = described.read_bytes()
    bare.parent.mkdir(parents=True, exist_ok=True)
    places, refused, same = random.Random(seed), {described: 0, bare: 0}, 0
    for _ in range(count):
        bit = places.randrange(8 * len(whole))
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        for file in refused:
            file.write_bytes(broken)
            try:
                found = read_weights(file).networks[0]
            except UserError:
                refused[file] += 1
            else:
                same += file == bare and not unlike(dict(found), dict(network.state_dict()))
    assert info_file(described).is_file() and not info_file(bare).exists()
    return refused[described], refused[bare], same


def overhead(folder: Path, repeats: int = 5) -> tuple[float, float]:
    """Seconds of saving an epoch of the full-size network: best weights and state; with and without the safeguards."""
    network = ImprovedUNet()
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    model = network.state_dict()
    last = {"model": model, "optimizer": optimizer.state_dict()}
    times: dict[str, list[float]] = {"safe": [], "plain": []}
    for _ in range(repeats):
        began = time.perf_counter()
        write_weights(model, {}, folder / "model.pt")
        write_checkpoint(last, folder / STATES[0], folder / STATES[1])
        middle = time.perf_counter()
        for content, name in ((model, "plain_model.pt"), (last, "plain_last.pt")):
            torch.save(content, folder / "plain.partial")
            with (folder / "plain.partial").open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(folder / "plain.partial", folder / name)
        times["plain"].append(time.perf_counter() - middle)
        times["safe"].append(middle - began)
    return statistics.median(times["safe"]), statistics.median(times["plain"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of a training run, without and with workers each")
    parser.add_argument("--save_kills", type=int, default=100)
    parser.add_argument("--disk_full", type=int, default=10)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=10, help="of the runs that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_overhead", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork does not take a pool of threads along
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate.generate(folder / "data", patients=5, scans=2, size=(32, 32, 16), seed=0)
        common = {
            "dataset_dir": str(folder / "data"),
            "datalist": str(folder / "datalist.json"),
            "epochs": given.epochs,
        }
        for workers in (0, 2):
            began = time.perf_counter()
            train_through(folder / f"whole{workers}", num_workers=workers, **common)
            seconds = time.perf_counter() - began
            runs, hits, equal = 0, 0, 0
            while hits < given.kills:
                broken = folder / f"broken{workers}_{runs}"
                left = min(5, given.kills - hits)
                hits += killed_and_resumed(broken, left, seconds / 2, given.seed + runs, num_workers=workers, **common)
                found = differences(folder / f"whole{workers}", broken)
                runs, equal = runs + 1, equal + (not found)
                print(*found[:5], sep="\n", end="\n" if found else "")
            lines.append((f"runs killed {hits} times, {workers} workers", f"{equal} of {runs} runs end bit-identical"))
        held = kills_while_saving(folder / "saving", given.save_kills, given.seed)
        lines.append(("kills inside saving", f"{held} of {given.save_kills} leave complete weights and a checkpoint"))
        held = full_disks(folder / "full", given.disk_full)
        lines.append(("file cut off by the kernel", f"{held} of {given.disk_full} told in one line, all as it was"))
        held = failing_calls(folder / "calls", given.disk_full)
        lines.append(
            ("disk full at a later call", f"{held} of {given.disk_full} told in one line, a complete checkpoint left")
        )
        refused, bare, same = flips(folder / "flips", given.flips, given.seed)
        without = f"without model.json {bare}, and {same} change no weight"
        lines.append(("flipped bits", f"{refused} of {given.flips} refused ({without})"))
        if not given.no_overhead:
            safe, plain = overhead(folder)
            lines.append(("saving an epoch at full width", f"{safe:.2f} s, without safeguards {plain:.2f} s"))
    for what, result in lines:
        print(f"{what:<38} {result}")


if __name__ == "__main__":
    main()
