"""Looks at every scan without a label, and writes at the end which to label first: `next.csv`."""

import logging
import math
from collections.abc import Iterator, Sequence
from itertools import chain

from ignite.engine import Engine
from monai.data import Dataset, MetaTensor
from torch import nn

from scripts.core.errors import UserError, one_line_reason
from scripts.core.files import read_json, rename_previous, write_csv, write_json
from scripts.data.names import case_name
from scripts.doubt.handler import Doubt
from scripts.doubt.likeness import facts_of
from scripts.inference.case_handler import CaseHandler
from scripts.inference.journal import RECORD, Journal
from scripts.next import label_server
from scripts.next.choice import SEEN, choose, places

logger = logging.getLogger(__name__)

NAME = "next.csv"
COLUMNS = ("rank", "image", "expected_dice", "unlike")
MOST = 500  # labelled scans that the others are compared with

Facts = dict[str, list[float]]


class Ranking(CaseHandler):
    """Keeps what the looks say of every scan, and ranks the scans.

    Args:
        output_dir: folder of `next.csv`.
        class_names: names of the values 0, 1, ...
        journal: knows the weights, and is told what became of every scan. Its names can't be codes.
        network: makes the predictions.
        device: that the network runs on.
        doubt: looks at the scans.
        labelled: the scans that have a label, as the network would be given them.
        count: of the scans that are named.
        server: address of a server of MONAI Label that is told the order; None for none.
    """

    def __init__(
        self,
        output_dir: str,
        class_names: Sequence[str],
        journal: Journal,
        network: nn.Module,
        device,
        doubt: Doubt,
        labelled: Dataset,
        count: int = 10,
        server: str | None = None,
    ):
        refuse_codes(journal.word)
        super().__init__(output_dir, class_names, journal, network, device)
        self.doubt, self.labelled, self.count, self.server = doubt, labelled, count, server

    def add_results(self, engine: Engine, seconds: float) -> None:
        if engine.state.output:
            case = engine.state.batch[0]
            found = {"unlike": getattr(engine.state, "unlike", ""), "dice": self.expected_dice()}
            self.run_or_note_failure(self.keep, case["source"], case["digest"], case["image"], found, seconds)

    def expected_dice(self) -> float:
        """Of the last scan: the mean over the classes of the Dice that is expected. A class that is not found has 0.

        Where nothing was learned of the weights, it is the mean Dice of the looks with the result.
        """
        signs, known = self.doubt.signs, self.doubt.calibration
        expected = known.expect(signs, dict.fromkeys(signs, 1.0)) if known else {}
        dices = {name: one["agreement"] for name, one in signs.items()}
        dices |= {name: one.dice for name, one in expected.items()}
        return sum(dices.values()) / (len(self.class_names) - 1)

    def keep(self, source: str, digest: str, image: MetaTensor, found: dict, seconds: float) -> None:
        """Keeps what is known of a scan in a file, which a later run reads."""
        content = {**found, "facts": sound_facts(image)}
        file = self.dir / ".scans" / f"{case_name(source)}.json"
        write_json(content, file, indent=None)
        self.journal.record_done(source, digest, f".scans/{file.name}", seconds, sealed=True, record=content)

    def add_earlier_result(self, source: str) -> None:
        self.journal.record_kept(source, read_json(self.journal.earlier_result(source)))

    def finish_run(self) -> None:
        if self.journal.finish():
            cases = [case for case in self.journal.cases.values() if case.get(RECORD)]
            if cases:
                self.rank([case["image"] for case in cases], [case[RECORD] for case in cases])
            else:
                rename_previous(self.dir / NAME)

    def rank(self, images: list[str], found: list[dict]) -> None:
        """Writes the table: the chosen scans in their order, the others by what they would gain, and then those that
        are unlike the training data."""
        known = [facts for _, facts in facts_in(self.labelled, like=found[0]["facts"])]
        rows = places([*(one["facts"] for one in found), *known])
        gains = [1 - one.get("dice", 0.0) for one in found]
        sound = [number for number, one in enumerate(found) if not one.get("unlike")]
        chosen = choose([gains[number] for number in sound], rows[sound], self.count, rows[len(found) :])
        first = [sound[number] for number in chosen]
        others = sorted(
            set(range(len(found))) - set(first),
            key=lambda number: (bool(found[number].get("unlike")), -gains[number], number),
        )
        table = []
        for place, number in enumerate([*first, *others], start=1):
            one = found[number]
            dice = f"{one['dice']:.3f}" if "dice" in one else ""
            table.append([place if place <= len(first) else "", images[number], dice, one.get("unlike", "")])
        file = self.dir / NAME
        write_csv([COLUMNS, *table], file)
        for line in table[: len(first)]:
            logger.info(f"{line[0]:>3}  {line[1]}" + (f"  (expected Dice {line[2]})" if line[2] else ""))
        if left_out := len(found) - len(sound):
            logger.info(f"not among them: {left_out} scans that are unlike the training data; the table says in what")
        logger.info(f"written: {file}, scans without a label: {len(found)}, with one: {len(known)}")
        if self.server:
            label_server.send(self.server, [line[1] for line in table])
            logger.info(f"{self.server}: knows the order")


def refuse_codes(word: str | None) -> None:
    """Refuses codes in place of names, by their secret word: nobody could tell which files to label."""
    if word is not None:
        raise UserError(
            "anonymise: found a word or True, expected False: a list of files to label can't be anonymous; leave it out"
        )


def sound_facts(image: MetaTensor, like: Facts | None = None) -> Facts:
    """The facts of an image, which can be compared with those of another one.

    Raises:
        UserError: they can't.
    """
    facts = facts_of(image)
    if not all(map(math.isfinite, chain(*facts.values()))):
        raise UserError("found voxels that are no numbers, expected numbers; make the scan anew")
    if not any(facts["picture"]):
        raise UserError("found the same everywhere, expected an image; move the scan away")
    if like and len(facts[SEEN[0]]) != len(like[SEEN[0]]):
        raise UserError(f"found {image.shape[0]} channels, the other scans have another number; move the scan away")
    return facts


def rank_by_images(ranking: Ranking, images: Dataset) -> None:
    """Ranks without a network, where there are no weights yet: the scans that are most unlike each other.

    Raises:
        UserError: some scans can't be read. The others are in the table.
    """
    failed: list[str] = []
    found = {source: {"facts": facts} for source, facts in facts_in(images, len(images), failed)}
    if found:
        ranking.rank(list(found), list(found.values()))
    else:
        rename_previous(ranking.dir / NAME)
    if failed:
        rest = "the others are in the table; fix or remove these" if found else "fix them, or name another folder"
        raise UserError(f"{len(failed)} of {len(images)} scans can't be read (see the lines above); {rest}")


def facts_in(
    images: Dataset, most: int = MOST, failed: list[str] | None = None, like: Facts | None = None
) -> Iterator[tuple[str, Facts]]:
    """Path and facts of every image, or of so many at most.

    One that can't be read, or can't be compared with `like`, by default with the first one, is left out, and noted in
    `failed`.
    """
    for number in range(0, len(images), max(1, math.ceil(len(images) / most))):
        source = str(images.data[number]["image"])
        try:
            facts = sound_facts(images[number]["image"], like)
            like = like or facts
            yield source, facts
        except Exception as error:
            logger.warning(f"{source}: left out: {one_line_reason(error)}")
            if failed is not None:
                failed.append(source)
