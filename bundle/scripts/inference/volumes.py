"""`volumes.csv`: the volumes of the structures in every case, and what is expected of them."""

from collections.abc import Sequence
from pathlib import Path

from scripts.core.files import write_csv
from scripts.report.schema import CaseRecord

FILE = "volumes.csv"
EXPECTED = ("expected_dice", "dice_low", "dice_high", "ml_low", "ml_high")  # columns for each class


def write_volumes(records: Sequence[CaseRecord], class_names: Sequence[str], folder: Path) -> None:
    """Writes a row for each case, in millilitres; where a Dice is expected, with that and with the ranges."""
    columns = [f"{name}_ml" for name in class_names[1:]]
    if any(record.expected for record in records):
        columns += [f"{name}_{what}" for name in class_names[1:] for what in EXPECTED]
    rows = []
    for record in records:
        numbers = {f"{name}_ml": found["predicted_ml"] for name, found in record.measures.items()}
        for name, found in record.expected.items():
            values = found["dice"], *found["dice_range"], *found["ml_range"]
            numbers |= zip((f"{name}_{what}" for what in EXPECTED), values)
        known = {column: round(numbers[column], 3) for column in columns if column in numbers}
        rows.append([record.case, *map(known.get, columns)])
    write_csv([["case", *columns], *rows], folder / FILE)
