"""Brings the demo's table and pictures into the documents; run by `make figures` after `make demo`."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO, DOCS = ROOT / "demo", ROOT / "bundle" / "docs"


def main() -> None:
    summary = (DEMO / "run" / "test_summary.txt").read_text()
    (DOCS / "demo_summary.txt").write_text(summary)
    shutil.copyfile(DEMO / "run" / "progress.png", DOCS / "progress.png")
    shutil.copyfile(sorted((DEMO / "predictions").glob("*_overlay.png"))[0], DOCS / "overlay.png")
    mean = summary.split()[-1]
    for file in (ROOT / "README.md", DOCS / "README.md"):
        text = file.read_text()
        text = re.sub(r"(?<=```\n)(SUMMARY\n|Dice .*?\n)(?=```)", lambda _: summary, text, flags=re.DOTALL)
        text = re.sub(r"(`make demo` \| mean Dice of 5 classes \| - \| )[^ ]+", rf"\g<1>{mean}", text)
        file.write_text(text)
    print(f"documents renewed: mean foreground Dice {mean}")


if __name__ == "__main__":
    main()
