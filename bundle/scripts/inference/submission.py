"""Writes label maps as run lengths in one CSV file, the format of challenges on pictures."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events

from scripts.core.errors import UserError
from scripts.core.files import atomic_write
from scripts.data.label_maps import read_labels
from scripts.data.names import case_name
from scripts.inference.journal import DONE, Journal

FILE = "submission.csv"


class Submission:
    """Writes `submission.csv` at the end of an inference: columns `id,encoding`, a row for each class of each picture.

    The id `cmr121_mask1` is class 1 of cmr121. The encoding is a list of pairs of start and length. Pixels are counted
    from 1, down the first column, then down the next. The file is read back and compared with the label maps. Of
    several processes the main one writes it, once the writer has ended the record, so it is attached after the writer.

    Args:
        output_dir: folder of the label maps.
        class_names: names of the values 0, 1, ...
        journal: record of the run, with the label map of every case.
    """

    def __init__(self, output_dir: str, class_names: Sequence[str], journal: Journal):
        self.dir, self.class_names, self.journal = Path(output_dir), list(class_names), journal

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self.write)

    def write(self) -> None:
        if not self.journal.is_main:
            return
        masks = list(self.masks())
        with atomic_write(self.dir / FILE) as partial:
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "encoding"])
                writer.writerows((name, encode(mask)) for name, mask in masks)
            with partial.open(newline="", encoding="utf-8") as file:
                for (name, mask), row in zip(masks, csv.DictReader(file), strict=True):
                    if row["id"] != name or not np.array_equal(decode(row["encoding"], mask.shape), mask):
                        raise UserError(
                            f"{self.dir / FILE}: {name} differs from its label map when it is read; write it again"
                        )

    def masks(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the mask of every class of every picture with its id, indexed [column, row]."""
        for image, case in sorted(self.journal.cases.items()):
            if case["fate"] != DONE:
                continue
            labels, _ = read_labels(self.dir / case["output"], self.class_names)
            name = case_name(image)
            for depth in range(labels.shape[2]):
                picture = name if labels.shape[2] == 1 else f"{name}_{depth}"
                for value in range(1, len(self.class_names)):
                    yield f"{picture}_mask{value}", labels[..., depth] == value


def encode(mask: np.ndarray) -> str:
    """Returns the runs of a mask, indexed [column, row], as `start length start length ...`."""
    steps = np.diff(np.concatenate([[0], mask.ravel().astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


def decode(encoding: str, shape: Sequence[int]) -> np.ndarray:
    """Returns the mask of an encoding, see `encode`."""
    flat = np.zeros(int(np.prod(shape)), bool)
    numbers = [int(word) for word in encoding.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = True
    return flat.reshape(shape)
