"""Which scans to label next: rounds of labelling and training, chosen by scripts.next and at random.

    python benchmarks/label_next.py phantoms [--seed 0 1 2 3 4] [--minutes 150]
    python benchmarks/label_next.py hippocampus --data DATA [--seed 0 1 2 3 4] [--minutes 150]

A pool of cases begins without labels. In each of five rounds eight of them are labelled, and a network is trained from
scratch on all that are labelled by then; its Dice is taken on cases that are not in the pool. The choice of a round is
that of `scripts.next` with the weights of the round before (the first round has none), or it is random. Both are done
with the same seeds of the training; each seed has a random draw of its own. All trainings have about the same number of
steps: that of whole epochs. A quarter of the phantoms is of another site. What was stopped, or is out of its minutes,
goes on when the same command is given again. The tables are left in demo/label_next as label_next.md and
label_next.json. Research use only.
"""

import argparse
import csv
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from common import BUNDLE, with_folds
from fine_tuning import CLASSES, write_site
from hippocampus import datalist
from results import leave
from trainings import DEMO, command, execute, train_once

ROUNDS, COUNT = 5, 8
WAYS = {"next": "`scripts.next`", "random": "at random"}
SITES = {False: (60, 18), True: (20, 6)}  # phantoms of the pool and those that are scored, of the other site or not
OTHER_SITE = 500  # number of its first patient


@dataclass(frozen=True)
class Task:
    """A training of a minute or two.

    Args:
        files: of training, evaluation and inference.
        patches: of the training alone.
        options: of all of them.
        training: of the training alone.
        steps: of the training.
    """

    files: list[str]
    patches: list[str]
    options: dict
    training: dict
    steps: int


TASKS = {
    "phantoms": Task(["demo"], [], {"spatial_size": [32, 32, 16]}, {"lr_decay": 0.64}, 320),
    "hippocampus": Task(["recipe_hippocampus"], ["strong"], {"features": 8}, {"batch_size": 1}, 320),
}


def cases_of(given: argparse.Namespace) -> tuple[Path, list[str], list[dict], list[dict]]:
    """The folder of a task, its classes, the cases of the pool, and those that are scored."""
    if given.task == "hippocampus":
        listed = datalist(given.data, "fold0")
        return given.data.resolve(), listed["class_names"], listed["training"], listed["validation"]
    from scripts.data.layouts import find_pairs
    from scripts.phantoms.generate import generate

    folder, names = given.output / "phantoms", CLASSES["site"]
    if not (given.output / "phantoms.done").is_file():
        generate(folder, patients=sum(SITES[False]), scans=1)
        write_site(folder, OTHER_SITE, sum(SITES[True]))
        (given.output / "phantoms.done").touch()
    sides: tuple[list[dict], list[dict]] = ([], [])
    for other, (pool, _) in SITES.items():
        found = [case for case in find_pairs(str(folder)) if (int(case["patient"]) >= OTHER_SITE) == other]
        sides[0].extend(found[:pool])
        sides[1].extend(found[pool:])
    return folder, names, *sides


def work(way: str, seed: int, given: argparse.Namespace, deadline: float) -> bool:
    """All rounds of a way and a seed; returns whether they are done."""
    task, labelled = TASKS[given.task], []
    data, names, pool, scored = cases_of(given)
    before = None
    for number in range(ROUNDS):
        folder = given.output / f"{way}_{seed}" / f"round{number}"
        folder.mkdir(parents=True, exist_ok=True)
        shared = {"dataset_dir": data} | task.options
        chosen = folder / "chosen.json"
        if not chosen.is_file():
            left = [case for case in pool if case["image"] not in labelled]
            if way == "random":
                new = [case["image"] for case in random.Random(1000 * seed + number).sample(left, COUNT)]
            else:
                new = ask(folder, before, data, names, pool, labelled, task, deadline)
            if new is None:
                return False
            chosen.write_text(json.dumps(new) + "\n")
        labelled = [*labelled, *json.loads(chosen.read_text())]
        listed = {"description": f"{len(labelled)} cases of {given.task}, chosen {WAYS[way]}", "class_names": names}
        listed |= {"dataset_dir": str(data), "training": [c for c in pool if c["image"] in labelled]}
        listed |= {"validation": [], "test": scored}
        (folder / "datalist.json").write_text(json.dumps(listed, indent=1) + "\n")
        copies = max(1, len(pool) // len(labelled))
        length = {"epochs": max(1, round(task.steps / (copies * len(labelled)))), "copies": copies}
        options = shared | task.training | length | {"seed": seed, "keep_last": True, "picture_interval": 1000}
        options |= {"num_workers": 0}
        train = command("training", ["train", *task.files, *task.patches], folder, "run", options, "--resume True")
        if not train_once(folder, f"{way}, seed {seed}, round {number}", train, train, deadline):
            return False
        evaluate = command("evaluating", ["train", "evaluate", *task.files], folder, "scored", shared)
        if not (folder / "scored" / "metrics.json").is_file() and not execute("score", evaluate, deadline):
            return False
        before = folder / "models"
    return True


def ask(
    folder: Path,
    models: Path | None,
    data: Path,
    names: list[str],
    pool: list[dict],
    labelled: list[str],
    task: Task,
    deadline: float,
) -> list[str] | None:
    """The scans that scripts.next names, by their images; None if it is out of time."""
    entries = [{k: v for k, v in c.items() if k != "label" or c["image"] in labelled} for c in pool]
    source = folder / "pool.json"
    listed = {"dataset_dir": str(data), "class_names": names, "training": [], "validation": [], "test": entries}
    source.write_text(json.dumps(listed, indent=1) + "\n")
    files = ",".join(f"'configs/{file}.json'" for file in ["inference", *task.files])
    given = task.options | ({"ckpt_dir": models} if models else {"shipped_weights": None})
    options = " ".join(f'--{name} "{value}"' for name, value in given.items())
    places = f"--dataset_dir {source} --output_dir {folder}/next --count {COUNT}"
    if not execute("next", f'python -m scripts.next {places} --config_file "[{files}]" {options}', deadline):
        return None
    with (folder / "next" / "next.csv").open(newline="") as stream:
        images = [row["image"] for row in csv.DictReader(stream) if row["rank"]]
    return [str(Path(image).relative_to(data)) for image in images]


def outcomes(output: Path) -> list[dict]:
    """A row for each task, way and number of cases: the mean Dice of every seed."""
    rows = []
    for task in TASKS:
        for way in WAYS:
            for number in range(ROUNDS):
                found = sorted((output / task).glob(f"{way}_*/round{number}/scored/metrics.json"))
                scores = [json.loads(file.read_text())["foreground"]["mean"] for file in found]
                if scores:
                    rows.append({"task": task, "way": way, "cases": COUNT * (number + 1), "dice": scores})
    return rows


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    counts = sorted({row["cases"] for row in rows})
    lines = [
        f"| data | chosen | seeds | {' | '.join(f'{count} cases' for count in counts)} |",
        f"|---|---|---:|{'---:|' * len(counts)}",
    ]
    for task in TASKS:
        for way, said in WAYS.items():
            found = {row["cases"]: row["dice"] for row in rows if (row["task"], row["way"]) == (task, way)}
            if found:
                cells = [f"{mean(found[c]):.3f} ± {spread(found[c]):.3f}" if c in found else "" for c in counts]
                lines.append(f"| {task} | {said} | {max(map(len, found.values()))} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Mean Dice, and its standard deviation over the seeds. Research use only."]) + "\n"


def spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument(
        "--data", type=with_folds, help="of the hippocampus: folder with imagesTr, labelsTr and folds.json"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=list(range(5)), metavar="N")
    parser.add_argument("--minutes", type=float, default=150, help="that this call may take; 150 by default")
    parser.add_argument("--output", type=Path, default=DEMO / "label_next")
    given = parser.parse_args()
    if given.task == "hippocampus" and not given.data:
        sys.exit("hippocampus: no --data, expected the folder with its imagesTr, labelsTr and folds.json")
    if (BUNDLE / "models" / "model.pt").is_file():
        sys.exit("bundle/models/model.pt: expected no weights there, as the first round has none; move it away")
    deadline = time.monotonic() + 60 * given.minutes
    top, given.output = given.output.resolve(), (given.output / given.task).resolve()
    given.output.mkdir(parents=True, exist_ok=True)
    whole = all(work(way, seed, given, deadline) for seed in given.seed for way in WAYS)
    if rows := outcomes(top):
        leave(rows, table(rows), top / "label_next.md")
    sys.exit(0 if whole else "not all is done; the same command goes on from here")


if __name__ == "__main__":
    main()
