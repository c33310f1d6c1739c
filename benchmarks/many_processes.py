"""How inference grows with processes and with cases: measured here, and computed on to 100,000 scans.

    python benchmarks/many_processes.py [--tiny 64] [--full 8] [--size 256 256 128] [--repeats 3] [--records 100000]

Images, some tiny and some of full size, are segmented under torchrun by one process and by two, in turn. Each process
has one thread. A run has three parts: the start, until the weights are read; the work, until the last label map is
written; the end, with the report. Then the parts that are done once for all cases are given very many: the list of
files, the record of the run, the tables, the report. The result is written to many_processes.md and
many_processes.json. An interrupted run continues with the part that is missing.
"""

import argparse
import ast
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist
from common import BUNDLE, inference, seconds

FILES = "['configs/inference.json','configs/multi_gpu_inference.json']"
TINY = {"spatial_size": "[32,32,16]", "features": "4"}
COUNTS = (1, 2)  # processes
SHOWN = (1, 8, 64, 512)  # processes of the computed times
clock = partial(seconds, repeats=1)


def timed(data: Path, models: Path, out: Path, processes: int, options: dict) -> dict[str, float]:
    """Seconds of the start, the work and the end of one run, from the start of the launcher to its end."""
    given = {"dataset_dir": data, "ckpt_dir": models, "output_dir": out, **options}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    line = [*launcher, "-m", "monai.bundle", "run", "inference", "--config_file", FILES, *words]
    began = time.time()
    done = subprocess.run(line, cwd=BUNDLE, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    ended = time.time()
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    log = (out / "inference.log").read_text()
    ready = datetime.strptime(re.search(r"^(\S+ \S+) weights: ", log, re.MULTILINE)[1], "%Y-%m-%d %H:%M:%S,%f")
    worked = max(file.stat().st_mtime for file in out.glob("*_seg.nii.gz"))
    return {"start": ready.timestamp() - began, "work": worked - ready.timestamp(), "end": ended - worked}


def prepare(root: Path, cases: int, size: tuple, features: int) -> tuple[Path, Path]:
    """Folders of images and of weights: those of a new network, which take as long as others."""
    from scripts.networks.improved_unet import ImprovedUNet
    from scripts.phantoms import generate
    from scripts.training.weights_info import write_weights

    generate.generate(root / "data", patients=cases, scans=1, size=size, seed=0)
    names = list(generate.CLASSES)
    network = ImprovedUNet(out_channels=len(names), features=features, dropout=0.3)
    write_weights(network.state_dict(), {"class_names": names}, root / "models" / "model.pt")
    return root / "data", root / "models"


def speed(root: Path, cases: int, size: tuple, options: dict, repeats: int) -> dict:
    """Seconds by number of processes, and the speed of two in relation to twice the speed of one."""
    data, models = prepare(root, cases, size, int(options.get("features", 16)))
    runs: dict[int, list[dict]] = {count: [] for count in COUNTS}
    for repeat in range(repeats):
        for count in COUNTS:
            runs[count].append(timed(data, models, root / f"{count}_{repeat}", count, options))
            print(f"{cases} cases of {size}, {count} process(es): {runs[count][-1]}", flush=True)
    rows = {count: {part: median(run[part] for run in own) for part in own[0]} for count, own in runs.items()}
    gains = [one["work"] / two["work"] for one, two in zip(*runs.values(), strict=True)]
    files = [file for file in data.glob("semantic_MRs*/*") if file.is_file()]
    return {
        "cases": cases,
        "size": list(size),
        "processes": rows,
        "gains": gains,
        "ratio": median(gains) / COUNTS[1],
        "image_bytes": sum(file.stat().st_size for file in files) / cases,
        "read_bytes": bytes_read(data, models, root / "read", options) / cases,
    }


def bytes_read(data: Path, models: Path, out: Path, options: dict) -> int:
    """What a process reads for all cases, from the disk or from the memory that holds the disk's files."""
    options = {key: ast.literal_eval(value) for key, value in options.items() if key != "pictures"}
    made = inference(data, models, out, **options)
    made.parser.get_parsed_content("journal").begin()
    before = rchar()
    made.parser.get_parsed_content("evaluator").run()
    return rchar() - before


def rchar() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def many(root: Path, count: int) -> dict:
    """Seconds and sizes of what is done once for all cases."""
    from scripts.data.datalist import list_images
    from scripts.inference.journal import Journal
    from scripts.inference.writer import SegmentationWriter
    from scripts.report.files import build, write
    from scripts.report.schema import CaseRecord

    (root / "images").mkdir()
    names = [f"Case_{number:06d}_Week0" for number in range(count)]
    made = clock(lambda: [(root / "images" / f"{name}.nii.gz").touch() for name in names])
    listed = clock(lambda: list_images(str(root / "images")))
    classes = ["background", "body", "bones", "bladder", "rectum", "prostate"]
    (root / "model.pt").write_bytes(b"weights")
    out = root / "out"
    journal = Journal(str(out), str(root / "model.pt"))
    journal.begin()
    journal.open()
    volumes = np.random.default_rng(0).lognormal(4, 1, (count, len(classes) - 1))

    def record(number: int) -> CaseRecord:
        measures = {name: {"status": "predicted", "predicted_ml": ml} for name, ml in zip(classes[1:], volumes[number])}
        return CaseRecord(names[number], f"{number:06d}", 0, measures, 5.0)

    def note(number: int) -> None:
        image, output = str(root / "images" / f"{names[number]}.nii.gz"), f"{names[number]}_seg.nii.gz"
        facts = record(number).to_dict()
        if journal.record_done(image, "0" * 64, output, 5.0, record=facts):
            writer.write_tables(writer.known_records())

    writer = SegmentationWriter(
        str(out), classes, journal, torch.nn.Identity(), torch.device("cpu"), [], pictures=False
    )
    noted = clock(lambda: [note(number) for number in range(count)])
    lines = journal.part(0).stat().st_size
    finished = clock(journal.finish)
    records = writer.known_records()
    tables = clock(lambda: writer.write_tables(records))
    reported = clock(lambda: write(build(records, classes, [], has_truth=False), out))
    kept = Journal(str(out), str(root / "model.pt"), resume=True)
    resumed = clock(kept.begin)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=20))
    adds = min(count, 10_000)
    seconds = {
        "list": listed,
        "a new file in a folder of so many": made / count,
        "note a case": noted / count,
        "last run.json": finished,
        "last volumes.csv": tables,
        "report": reported,
        "read run.json to resume": resumed,
        "take a case": clock(lambda: [store.add("case", 1) for _ in range(adds)]) / adds,
    }
    sizes = {"lines": lines, **{file.name: file.stat().st_size for file in sorted(out.iterdir()) if file.is_file()}}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"records": count, "seconds": seconds, "bytes": sizes, "peak_bytes": peak}


def hours(found: dict, processes: int) -> float:
    """Of all the cases that were measured for the parts done once, at the speed of the full-size ones."""
    full, once = found["full"]["processes"]["1"], found["many"]["seconds"]
    single = sum(once[name] for name in ("list", "last run.json", "last volumes.csv", "report"))
    case = full["work"] / found["full"]["cases"]
    return (full["start"] + single + found["many"]["records"] * case / processes) / 3600


def table(found: dict) -> str:
    """The result as Markdown."""
    head = ["cases", "processes", "start (s)", "work (s)", "end (s)", "speed, of the ideal"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in ("tiny", "full"):
        part = found[name]
        size = "x".join(map(str, part["size"]))
        for count, row in part["processes"].items():
            ratio = "1" if count == "1" else f"{part['ratio']:.2f}"
            shown = " | ".join(f"{row[name]:.1f}" for name in ("start", "work", "end"))
            lines.append(f"| {part['cases']} of {size} | {count} | {shown} | {ratio} |")
    once = found["many"]
    lines += ["", f"| of {once['records']:,} cases | seconds | size |", "|---|---|---|"]
    sizes = {"list": "", "last run.json": "run.json", "last volumes.csv": "volumes.csv", "report": "report.html"}
    for name, took in once["seconds"].items():
        size = once["bytes"].get(sizes.get(name, ""))
        shown = f"{took:.1f}" if took >= 0.1 else f"{took:.5f}"
        lines.append(f"| {name} | {shown} | {f'{size / 2**20:.1f} MiB' if size else ''} |")
    lines += ["", "| processes | hours for them |", "|---|---|"]
    lines += [f"| {count} | {hours(found, count):.1f} |" for count in SHOWN]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", type=int, default=64, help="number of tiny cases")
    parser.add_argument("--full", type=int, default=8, help="number of cases of full size")
    parser.add_argument("--size", type=int, nargs=3, default=[256, 256, 128], help="of the latter")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=Path())
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "many_processes.json"
    found: dict = json.loads(file.read_text()) if file.is_file() else {}
    options = {"pictures": "False", "num_workers": "0"}
    parts: dict[str, Callable] = {
        "many": lambda root: many(root, given.records),
        "tiny": lambda root: speed(root, given.tiny, (32, 32, 16), {**options, **TINY}, given.repeats),
        "full": lambda root: speed(root, given.full, tuple(given.size), options, given.repeats),
    }
    for name, part in parts.items():
        if name not in found:
            with tempfile.TemporaryDirectory() as folder:
                found[name] = part(Path(folder))
            file.write_text(json.dumps(found, indent=2) + "\n")
    found = json.loads(file.read_text())
    (given.output / "many_processes.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
