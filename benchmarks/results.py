"""Results of a benchmark: rows, kept as NAME.json, with the table of NAME.md."""

import json
from collections.abc import Callable, Hashable
from pathlib import Path


def leave(rows: list[dict], text: str, file: Path) -> None:
    """Writes results as NAME.json and NAME.md, and shows them."""
    file.with_suffix(".json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    file.with_suffix(".md").write_text(text)
    print(f"\n{text}")


def earlier_rows(file: Path) -> list[dict]:
    """The rows that an earlier call has left in NAME.json."""
    return json.loads(file.read_text())["rows"] if file.is_file() else []


def rows_of_other_sets(file: Path, name: str, processor: str | None = None) -> list[dict]:
    """The rows that an earlier call has left in NAME.json, without those of a set that is measured anew.

    With a processor, what other processors have measured of this set stays as well.
    """
    return [row for row in earlier_rows(file) if row["set"] != name or (processor and row["processors"] != [processor])]


def with_earlier(rows: list[dict], file: Path, place: Callable[[dict], Hashable]) -> list[dict]:
    """The rows, and those that an earlier call has left in NAME.json of trainings that are not there any more.

    Args:
        rows: of the trainings that are there.
        file: NAME.json.
        place: what a row is of; a new row of the same replaces the earlier one.
    """
    return list({place(row): row for row in [*earlier_rows(file), *rows]}.values())
