"""Dice per class and case on the original grid: a CSV file and a table."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events

from monai.utils import string_list_all_gather
from scripts.checkpoint import is_main_process
from scripts.files import whole
from scripts.layouts import case_name, scan_key

logger = logging.getLogger(__name__)


class CaseScores:
    """Writes `test_dice.csv`, one row a case and one column a class; prints a summary and keeps it beside it.

    An empty field means that the class is absent from the truth: there is nothing to score, and it does not count.

    Args:
        output_dir: folder of the file.
        class_names: names of the values 0, 1, ...
        metric: name of a metric of the evaluator that keeps its details, of shape (cases, classes).
    """

    def __init__(self, output_dir: str, class_names: Sequence[str], metric: str):
        self.file = Path(output_dir) / "test_dice.csv"
        self.class_names = list(class_names)
        self.metric = metric

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_names)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish)

    def begin(self) -> None:
        self.names: list[str] = []

    def add_names(self, engine: Engine) -> None:
        self.names += [case_name(item["pred"].meta["filename_or_obj"]) for item in engine.state.output]

    def finish(self, engine: Engine) -> None:
        names = string_list_all_gather(self.names)
        scores = engine.state.metric_details[self.metric].cpu().numpy()
        if not is_main_process():
            return
        order = np.argsort(names)
        with whole(self.file) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "patient", *self.class_names])
            for i in order:
                values = ["" if np.isnan(score) else f"{score:.4f}" for score in scores[i]]
                writer.writerow([names[i], scan_key(names[i])[0], *values])
        lines = table([names[i] for i in order], scores[order], self.class_names)
        with whole(self.file.with_name("test_summary.txt")) as partial:
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for line in lines:
            logger.info(line)
        logger.info(f"scores of every case: {self.file}")


def table(names: Sequence[str], scores: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Lines of a summary: cases scored, mean, standard deviation, median and the worst case of every class."""
    width = max(len(name) for name in (*class_names, "mean foreground"))
    lines = [f"{'Dice':<{width}} {'n':>4} {'mean':>7} {'sd':>7} {'median':>7}   worst"]
    for name, column in zip(class_names, scores.T):
        known = column[~np.isnan(column)]
        if not len(known):
            lines.append(f"{name:<{width}}    0       -       -       -   absent from every case")
            continue
        worst = int(np.nanargmin(column))
        spread = known.std(ddof=1) if len(known) > 1 else 0.0
        lines.append(
            f"{name:<{width}} {len(known):>4} {known.mean():>7.4f} {spread:>7.4f} {np.median(known):>7.4f}   "
            f"{column[worst]:.4f} {names[worst]}"
        )
    means = [np.nanmean(column) for column in scores.T[1:] if not np.isnan(column).all()]
    lines.append(f"{'mean foreground':<{width}} {len(names):>4} {np.mean(means) if means else float('nan'):>7.4f}")
    return lines
