"""How the work grows with the number of cases and of runs: seconds and memory of the commands around the network.

    python benchmarks/growth.py [--cases 10 100 1000] [--runs 10 50 200] [--minutes 60]

Each data set has tiny images of its own, in the Decathlon's layout, and every command is started as a user starts it,
with an untrained network that is as small as it can be: what is measured is what surrounds it. The seconds are those of
the processor, of a command and its own processes, less those of the smallest set for the further cases: what a command
needs in any case is not divided among them. If the column of each further one rises from one set to the next, it is
worse than linear. A study runs trainings of one epoch on ten cases; it goes on from one number of runs to the next, and
its seconds are added. What is measured is not measured again; the table is left in demo/growth as growth.md and
growth.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import common
import nibabel as nib
import numpy as np
from results import earlier_rows, leave
from trainings import DEMO

SIZE = (24, 24, 24)
SMALL = "--spatial_size [32,16,16] --features 1 --num_workers 0 --cache_workers 1 --picture_interval 1000"
SMALL += " --class_names ['background','body','bones'] --test_share 0.2 --calibrate False"
RUN = "-m monai.bundle run"
COMMANDS = {  # what is timed, in this order: each finds what the ones before it have left
    "check": "-m scripts.check --dataset_dir {data} --output_dir {out}/check --workers 1",
    "datalist": "-m scripts.datalist --dataset_dir {data} --output {out}/datalist.json --test 0.2",
    "training, first epoch": f"{RUN} training --config_file configs/train.json {{paths}} --epochs 1",
    "training, one more": f"{RUN} training --config_file configs/train.json {{paths}} --epochs 2 --resume True",
    "evaluation of a fifth": f"{RUN} evaluating --config_file ['configs/train.json','configs/evaluate.json'] {{paths}}",
    "report on label maps": "-m scripts.report evaluate --truth {data}/labelsTr --prediction {data}/labelsTr "
    "--output_dir {out}/report --workers 1 --class_names ['background','body','bones']",
}
STUDY, STUDIED = "study", 10  # the row's name; the cases of its trainings
RUNS = "-m scripts.study --search random --epochs 1 --space {'learning_rate':{'low':0.0001,'high':0.01,'log':True}}"


def write_cases(folder: Path, count: int) -> None:
    """Writes images of noise around a body and a bone, whose places differ."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    names = [f"case_{number:05d}.nii.gz" for number in range(count)]
    grid = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"))
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        middle = np.array(SIZE)[:, None, None, None] / 2 + random.uniform(-3, 3, (3, 1, 1, 1))
        distance = np.sqrt(((grid - middle) ** 2).sum(0))
        label = (distance < random.uniform(6, 8)).astype(np.uint8) + (distance < random.uniform(2, 5))
        image = (100.0 * label + random.normal(50, 10, SIZE)).astype(np.float32)
        affine = np.diag([-2.0, -2.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / "imagesTr" / name)
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / name)
    listed = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    labels = {"0": "background", "1": "body", "2": "bones"}
    about = {"name": "growth", "modality": {"0": "MRI"}, "labels": labels, "numTraining": count, "training": listed}
    (folder / "dataset.json").write_text(json.dumps(about | {"test": [], "numTest": 0}) + "\n")


def measure(words: str) -> dict:
    """Processor seconds, seconds by the clock, and peak memory of a Python command in bundle/."""
    script = (
        "import resource, subprocess, sys; code = subprocess.run([sys.executable, '-W', 'ignore', *sys.argv[1:]],"
        " stdout=subprocess.DEVNULL).returncode; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *words.split()], cwd=common.BUNDLE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{words}: {done.stderr.strip()[-500:]}")
    seconds, peak = done.stdout.split()
    return {"seconds": float(seconds), "clock": time.perf_counter() - began, "gib": int(peak) / 2**20}


def prepare(output: Path, count: int) -> Path:
    """Writes a data set, unless it is there; returns the folder that has it in `data`."""
    folder = output / str(count)
    if not (folder / "written").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write_cases(folder / "data", count)
        (folder / "written").touch()
    return folder


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| command | cases or runs | processor seconds | of each further one, in ms | peak memory, GiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in (*COMMANDS, STUDY):
        own = sorted((row for row in rows if row["command"] == name), key=lambda row: row["cases"])
        for before, row in zip([None, *own], own):
            further = ""
            if before:
                further = f"{1000 * (row['seconds'] - before['seconds']) / (row['cases'] - before['cases']):.1f}"
            lines.append(f"| {name} | {row['cases']} | {row['seconds']:.1f} | {further} | {row['gib']:.2f} |")
    processors = sorted({row["processor"] for row in rows})
    return "\n".join([*lines, "", f"Processor: {' and '.join(processors)}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--runs", type=int, nargs="*", default=[10, 50, 200], help="of a study")
    parser.add_argument("--minutes", type=float, default=60, help="that this call may take")
    parser.add_argument("--output", type=Path, default=DEMO / "growth")
    given = parser.parse_args()
    given.output = given.output.resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    kept, deadline = given.output / "growth.json", time.monotonic() + 60 * given.minutes
    rows = earlier_rows(kept)

    def add(name: str, count: int, words: str) -> None:
        """Measures a command, unless that was done before."""
        if any(row["cases"] == count and row["command"] == name for row in rows):
            return
        if time.monotonic() > deadline:
            sys.exit("not all is done; the same command goes on from here")
        found = measure(words)
        if name == STUDY:  # the runs before these
            found["seconds"] += max((row["seconds"] for row in rows if row["command"] == STUDY), default=0.0)
        rows.append({"command": name, "cases": count, **found, "processor": common.processor()})
        leave(rows, table(rows) + "\n", given.output / "growth")

    for count in sorted(given.cases):
        folder = prepare(given.output, count)
        data, out = folder / "data", folder / "out"
        paths = f"--dataset_dir {data} --datalist {out}/datalist.json --output_dir {out} --ckpt_dir {out}/models"
        for name, words in COMMANDS.items():
            add(name, count, words.format(data=data, out=out, paths=f"{paths} {SMALL}"))
    for count in sorted(given.runs):
        folder = prepare(given.output, STUDIED)
        paths = f"--dataset_dir {folder}/data --output_dir {folder}/study"
        add(STUDY, count, f"{RUNS} --trials {count} {paths} {SMALL}")


if __name__ == "__main__":
    main()
