"""Brings the demo's figures and pictures into the documents; run by `make figures` after `make demo`.

The report's first screen is photographed where Chromium is installed, and left as it was where not. The tables of
benchmarks/recipes.py, networks.py, hippocampus.py and strong_steps.py come along where these were run.
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
DOCUMENTS = ROOT / "README.md", DOCS / "README.md"
TABLES = {  # name of the script that measures, where its results lie, the document that has its table
    "recipes": (DEMO / "recipes" / "recipes.json", DOCS / "recipes.md"),
    "networks": (DEMO / "networks.json", DOCS / "recipes.md"),
    "hippocampus": (DEMO / "hippocampus" / "hippocampus.json", DOCS / "hippocampus.md"),
    "strong_steps": (DEMO / "strong_steps" / "strong_steps.json", DOCS / "hippocampus.md"),
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


def photograph(page: Path, file: Path) -> None:
    """The first screen of a page, 1280 pixels wide."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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
    """Takes the newest results that lie in demo/ into the documents."""
    for name, (results, _) in TABLES.items():
        if results.is_file():
            shutil.copyfile(results, DOCS / f"{name}_metrics.json")
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
    total = metrics["foreground"]
    for file in DOCUMENTS:
        text = re.sub(r"\| class \| scans \|.*?\n(?!\|)", lambda _: f"{table(metrics)}\n", file.read_text(), flags=re.S)
        mean = f"{total['mean']:.3f} ({between(total)})"
        text = re.sub(r"(`make demo` \| mean Dice of 5 classes \| - \| )[^|]+ \|", rf"\g<1>{mean} |", text)
        file.write_text(text)
    print(f"documents renewed: mean foreground Dice {mean}")


if __name__ == "__main__":
    main()
