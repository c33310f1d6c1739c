"""What the files of both trainings of peer_nnunet.py say, as a table and a picture."""

import csv
import json
from itertools import accumulate
from pathlib import Path

from hippocampus import PUBLISHED
from matplotlib.figure import Figure

MARKS = 4  # as in nnunet_trainer/timed_trainer.py
DATASET = "Dataset004_Hippocampus"
MODEL = "TimedTrainer__nnUNetPlans__3d_fullres/fold_0"
TESTED = {"mirrored": "", "plain": " --disable_tta"}  # nnU-Net's default at the test, and without mirror images


def share(folder: Path) -> float | None:
    """The share of its core that a training had, by what `measured` has noted."""
    if not (folder / "seconds.csv").is_file():
        return None
    with (folder / "seconds.csv").open(newline="") as file:
        clock, worked = (sum(map(float, column)) for column in zip(*csv.reader(file)))
    return worked / clock


def read_history(run: Path) -> list[tuple[float, float | None]]:
    """Seconds from the start to the end of every epoch, and its mean validation Dice where it has one."""
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seconds = accumulate(float(row["seconds"]) for row in rows)
    return [(time, float(row["val_mean_dice"]) if row["val_mean_dice"] else None) for time, row in zip(seconds, rows)]


def ends(output: Path) -> list[float]:
    """Seconds of training at which each of our networks was finished."""
    folders = [file.parent for file in output.glob("ours/network_*/trained.json")]
    folders.sort(key=lambda folder: int(folder.name.removeprefix("network_")))
    return list(accumulate(read_history(folder / "run")[-1][0] for folder in folders))


def dice(folder: Path) -> dict:
    """The mean Dice over cases and classes of a report, and its interval."""
    found = json.loads((folder / "metrics.json").read_text())["foreground"]
    return {"mean": found["mean"], "ci": found["ci"], "cases": found["n"]}


def peer_at(output: Path, mark: int, total: float) -> dict:
    """Time, iterations and scores of nnU-Net's checkpoint at a mark: the first iteration that ended after it."""
    folder = output / "nnunet"
    with (folder / "results" / DATASET / MODEL / "clock.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if MARKS * float(row["seconds"]) >= mark * total)
    found = {"seconds": float(row["seconds"]), "iterations": int(row["iteration"])}
    return found | {kind: dice(folder / f"{kind}_{mark}") for kind in TESTED}


def ours_at(output: Path, seconds: float) -> dict:
    """What ours has at a time: the networks that are finished, or else the last validation of the first one."""
    finished = [end for end in ends(output) if end <= seconds]
    if count := len(finished):
        return {"networks": count, "seconds": finished[-1], **dice(output / "ours" / f"averaged_{count}" / "run")}
    epochs = enumerate(read_history(output / "ours" / "network_1" / "run"), start=1)
    known = [(epoch, time, value) for epoch, (time, value) in epochs if value is not None and time <= seconds]
    return {"networks": 0} | (dict(zip(("epoch", "seconds", "mean"), known[-1])) if known else {})


def table_row(output: Path, minutes: float, mark: int) -> dict:
    """A row of the table: both sides after a part of the time, and their difference case by case."""
    from scripts.report.comparison import compare

    total = 60 * minutes
    row = {"minutes": minutes * mark / MARKS, "peer": peer_at(output, mark, total)}
    row["ours"] = ours_at(output, total * mark / MARKS)
    if row["ours"]["networks"]:
        folders = [f"nnunet/mirrored_{mark}", f"ours/averaged_{row['ours']['networks']}/run"]
        found = compare([str(output / folder) for folder in folders])["foreground"]["differences"][0]
        row["difference"] = {"mean": found["mean"], "ci": found["ci"]}
    return row


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    lines = [
        "| minutes | nnU-Net: iterations | its Dice | without mirror images | this bundle | its Dice | difference |",
        "|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        peer, own = row["peer"], row["ours"]
        count = own["networks"]
        what = f"{count} network{'s' * (count > 1)}" if count else f"network 1 after epoch {own.get('epoch', 0)}"
        cells = [f"{row['minutes']:g}", peer["iterations"], *(shown(peer[kind]) for kind in TESTED), what, shown(own)]
        found = row.get("difference")
        gain = f"{found['mean']:+.4f} ({found['ci'][0]:+.4f} to {found['ci'][1]:+.4f})" if found else ""
        lines.append("| " + " | ".join(map(str, [*cells, gain])) + " |")
    return "\n".join(lines)


def shown(found: dict) -> str:
    interval = f" ({found['ci'][0]:.3f} to {found['ci'][1]:.3f})" if "ci" in found else ""
    return f"{found['mean']:.4f}{interval}" if "mean" in found else "-"


def curves(results: dict) -> dict[str, list[tuple[float, float]]]:
    """Minutes and Dice of the points of every line of the picture."""
    made = {}
    for kind in TESTED:
        made[kind] = [(row["peer"]["seconds"] / 60, row["peer"][kind]["mean"]) for row in results["rows"]]
    made["validation"] = [(seconds / 60, value) for seconds, value in results["validation"]]
    made["ours"] = [(found["seconds"] / 60, found["mean"]) for found in results["ours"]]
    return made


def draw(results: dict, file: Path) -> None:
    """Both curves in one picture."""
    from scripts.core.palette import colour

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axis = figure.subplots()
    styles = {  # label, colour, line, marker
        "mirrored": ("nnU-Net, its default: mirror images at the test", 5, "-", "s"),
        "plain": ("nnU-Net, without mirror images", 5, ":", "s"),
        "validation": ("this bundle: the first network while it is trained", 6, ":", "."),
        "ours": ("this bundle: finished networks, averaged; how many", 6, "-", "o"),
    }
    for kind, points in curves(results).items():
        label, number, line, marker = styles[kind]
        axis.plot(*zip(*points), line, color=colour(number), marker=marker, label=label) if points else None
    for (minutes, value), found in zip(curves(results)["ours"], results["ours"]):
        axis.annotate(found["networks"], (minutes, value), (0, 7), textcoords="offset points", ha="center")
    published = sum(PUBLISHED["nnU-Net 3D, mean of five folds"]) / 2
    label = "nnU-Net as published, 208 training cases"
    axis.axhline(published, color="grey", linewidth=0.8, linestyle="--", label=label)
    values = [published, *(value for kind in (*TESTED, "ours") for _, value in curves(results)[kind])]
    axis.set_ylim(min(values) - 0.02, max(values) + 0.1 * (max(values) - min(values)))
    axis.set_xlim(0, results["rows"][-1]["minutes"] * 1.02)
    axis.set(xlabel="minutes of training on one CPU core", ylabel="mean Dice, front and back of the hippocampus")
    cases = results["rows"][0]["peer"]["mirrored"]["cases"]
    axis.set_title(f"Hippocampus, fold 0: {cases} cases that training has not seen. Research use only")
    axis.legend(loc="lower right", fontsize="small")
    axis.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def on_what(about: dict, side: str) -> str:
    """The processor of a training, and how much of its core it had."""
    known = about[f"{side}_share"]
    return about[f"{side}_processor"] + (f", {known:.0%} of one core" if known else "")


def leave(results: dict, output: Path) -> None:
    """Writes the results as JSON, Markdown and picture, and shows the table."""
    found, last = results["about"], results["rows"][-1]["peer"]
    pace = last["seconds"] / last["iterations"]
    text = f"{table(results['rows'])}\n\n"
    text += f"nnU-Net: {found['peer']}; {found['plan']}; {pace:.1f} s an iteration; {on_what(found, 'peer')}.\n"
    text += f"This bundle: {found.get('ours', 'no network finished')}; {on_what(found, 'ours')}.\n"
    text += "Mean Dice of cases and classes, 95 % intervals; differences case by case. Research use only.\n"
    (output / "peer_nnunet.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "peer_nnunet.md").write_text(text)
    draw(results, output / "peer_nnunet.png")
    print(f"\n{text}written: {output / 'peer_nnunet.md'}, with .json and .png beside it")
