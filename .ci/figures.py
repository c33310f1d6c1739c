"""Writes measured figures and pictures into the documents; run by `make figures` after `make demo`.

The model card has the table of the demo's run. README and card say what the demo's mean Dice was on several machines,
from bundle/docs/demo_machines.json; a figure beyond those is added there by hand. The report's first screen is
photographed if Chromium is installed. The tables of the benchmarks in `TABLES` are renewed if these were run.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO, DOCS = ROOT / "demo", ROOT / "bundle" / "docs"
README, CARD = ROOT / "README.md", DOCS / "README.md"
MACHINES = DOCS / "demo_machines.json"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TABLES = {  # name of the script that measures, where its results are, the document that has its table
    "recipes": (DEMO / "recipes" / "recipes.json", DOCS / "recipes.md"),
    "networks": (DEMO / "networks.json", DOCS / "recipes.md"),
    "cardiac": (DEMO / "cardiac" / "cardiac.json", DOCS / "recipes.md"),
    "lgg": (DEMO / "lgg" / "lgg.json", DOCS / "recipes.md"),
    "hippocampus": (DEMO / "hippocampus" / "hippocampus.json", DOCS / "hippocampus.md"),
    "hippocampus_decisions": (DEMO / "hippocampus" / "hippocampus_decisions.json", DOCS / "hippocampus.md"),
    "peer_nnunet": (DEMO / "peer_nnunet" / "peer_nnunet.json", DOCS / "hippocampus.md"),
    "strong_steps": (DEMO / "strong_steps" / "strong_steps.json", DOCS / "hippocampus.md"),
    "planned": (DEMO / "planned" / "planned.json", DOCS / "how-to" / "plan.md"),
    "doubt": (DEMO / "doubt" / "doubt.json", DOCS / "how-to" / "doubt.md"),
    "unlike": (DEMO / "doubt" / "unlike.json", DOCS / "how-to" / "doubt.md"),
    "doubt_costs": (DEMO / "doubt" / "doubt_costs.json", DOCS / "how-to" / "doubt.md"),
    "runtimes": (DEMO / "runtimes" / "runtimes.json", DOCS / "how-to" / "memory-and-speed.md"),
    "int8": (DEMO / "int8" / "int8.json", DOCS / "how-to" / "memory-and-speed.md"),
    "caches": (DEMO / "caches" / "caches.json", DOCS / "how-to" / "memory-and-speed.md"),
    "start": (DEMO / "start" / "start.json", DOCS / "reference" / "benchmarks.md"),
    "inference_memory": (DEMO / "inference_memory" / "inference_memory.json", DOCS / "how-to" / "memory-and-speed.md"),
    "peer_inference": (DEMO / "peer_inference" / "peer_inference.json", DOCS / "how-to" / "memory-and-speed.md"),
    "step_variants": (DEMO / "step_variants" / "step_variants.json", DOCS / "how-to" / "memory-and-speed.md"),
    "peer_data": (DEMO / "peer_data" / "peer_data.json", DOCS / "reference" / "benchmarks.md"),
    "growth": (DEMO / "growth" / "growth.json", DOCS / "reference" / "benchmarks.md"),
    "label_next": (DEMO / "label_next" / "label_next.json", DOCS / "how-to" / "label-next.md"),
    "fine_tuning": (DEMO / "fine_tuning" / "fine_tuning.json", DOCS / "how-to" / "fine-tune.md"),
}
KEPT = ("foreground", "classes", "patients", "worst", "tolerance_mm")  # of metrics.json: not every case
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb"


def table(metrics: dict) -> str:
    """The demo's results in Markdown."""
    rows = [
        "| class | scans | missed | Dice | its 95 % interval | HD95 in mm | surface Dice at 2 mm | worst Dice |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in metrics["classes"].items():
        dice, distance, surface = (found["measures"][m] for m in ("Dice", "hd95_mm", "surface_dice"))
        rows.append(
            f"| {name} | {found['n']} | {found['missed']} | {dice['mean']:.3f} | {between(dice)} | "
            f"{distance['mean']:.1f} | {surface['mean']:.3f} | {dice['worst']['value']:.3f} |"
        )
    total = metrics["foreground"]
    missed = sum(found["missed"] for found in metrics["classes"].values())
    worst = f"{total['worst']['value']:.3f}"
    rows.append(f"| mean | {total['n']} | {missed} | {total['mean']:.3f} | {between(total)} | | | {worst} |")
    return "\n".join(rows)


def between(found: dict) -> str:
    return f"{found['ci'][0]:.3f} to {found['ci'][1]:.3f}"


def over_machines(means: list[float]) -> str:
    """What the documents say of the demo's mean Dice."""
    return f"{min(means):.3f} to {max(means):.3f} on {NUMBERS[len(means)]} machines"


def is_among(mean: float, means: list[float]) -> bool:
    """Whether a mean lies within those that the documents give."""
    return min(means) <= round(mean, 3) <= max(means)


def photograph(page: Path, file: Path) -> None:
    """The first screen of a page, 1280 pixels wide."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        print(f"no Chromium here: {file.name} stays as it was")
        return
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", "--window-size=1280,860", f"--screenshot={file}"]
        command = [browser, *QUIET.split(), *options, page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def tables() -> dict[str, str]:
    """The measured tables by name, as the scripts that measured them write them."""
    made = {}
    sys.path.insert(0, str(ROOT / "benchmarks"))
    for name in TABLES:
        kept = DOCS / f"{name}_metrics.json"
        if kept.is_file():
            script = importlib.import_module(name)
            made[name] = script.table(json.loads(kept.read_text())["rows"])
    return made


def renew_tables() -> None:
    """Copies the newest results in demo/ into the documents."""
    for name, (results, _) in TABLES.items():
        if results.is_file():
            shutil.copyfile(results, DOCS / f"{name}_metrics.json")
        if results.with_suffix(".png").is_file():
            shutil.copyfile(results.with_suffix(".png"), DOCS / f"{name}.png")
    for name, made in tables().items():
        file = TABLES[name][1]
        start, _, rest = file.read_text().partition(f"<!-- {name} -->\n")
        file.write_text(f"{start}<!-- {name} -->\n\n{made}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


def main() -> None:
    renew_tables()
    metrics = json.loads((DEMO / "run" / "metrics.json").read_text())
    metrics = {key: metrics[key] for key in KEPT}
    (DOCS / "demo_metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    shutil.copyfile(DEMO / "run" / "progress.png", DOCS / "progress.png")
    shutil.copyfile(sorted((DEMO / "predictions").glob("*_overlay.png"))[0], DOCS / "overlay.png")
    photograph(DEMO / "run" / "report.html", DOCS / "report.png")
    CARD.write_text(
        re.sub(r"\| class \| scans \|.*?\n(?!\|)", lambda _: f"{table(metrics)}\n", CARD.read_text(), flags=re.S)
    )
    mean, means = metrics["foreground"]["mean"], json.loads(MACHINES.read_text())["mean_dice"]
    for file in (README, CARD):
        file.write_text(re.sub(r"[\d.]+ to [\d.]+ on \w+ machines", over_machines(means), file.read_text()))
    print(f"documents renewed: mean foreground Dice {mean:.3f}")
    if not is_among(mean, means):
        sys.exit(f"{MACHINES}: {mean:.3f} is beyond the means in it; add it there and start this again")


if __name__ == "__main__":
    main()
