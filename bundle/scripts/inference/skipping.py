"""Skips a case that fails, at whatever step, and goes on with the others.

The configurations of inference and evaluation use both classes: one for loading, one for the network and after it.
"""

from collections.abc import Sequence

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.transforms import LoadImaged

from scripts.check.dataset import find_faults
from scripts.core.errors import UserError, one_line_reason
from scripts.data.digests import sha256_of_files
from scripts.data.readers import VolumeReader
from scripts.data.slices import refuse_what_reader_cannot
from scripts.doubt.handler import Likeness
from scripts.inference.journal import Journal


class SkippingDataset(Dataset):
    """A dataset that returns the reason (`failed`) in place of a case that can't be used, and `kept` for one that an
    earlier run has finished.

    Args:
        data: dictionaries with an `image` path and, for evaluation, a `label` path.
        transform: the deterministic chain of MONAI transforms.
        journal: record of the run; it says which cases are finished.
        class_names: names of the values 0, 1, ..., for cases that have a `label`.
        channels: number of channels of every image.
        reader: the reader that the configuration names.
    """

    def __init__(
        self,
        data,
        transform,
        journal: Journal,
        class_names: Sequence[str],
        channels: int = 1,
        reader: str | None = None,
    ):
        super().__init__(data, transform)
        self.journal, self.class_names, self.channels = journal, class_names, channels
        self.reader = reader
        if journal.word is not None:
            refuse_equal_codes([str(case["image"]) for case in data], journal)
        loaders = [step._loader for step in transform.transforms if isinstance(step, LoadImaged)]
        self.readers = [part for loader in loaders for part in loader.readers if isinstance(part, VolumeReader)]

    def __getitem__(self, index: int) -> dict:
        image = str(self.data[index]["image"])
        read: dict = {}
        try:
            refuse_what_reader_cannot(image, self.reader)
            label = self.data[index].get("label")
            found = sha256_of_files([image, label] if label else image)
            if self.journal.is_done(image, found):
                return {"source": image, "kept": True}
            faults = find_faults(image, label, self.class_names, self.channels, read)
            if faults:
                return {"source": image, "failed": faults[0]}
            for reader in self.readers:  # so that no file is read twice
                reader.ready = read
            return {**super().__getitem__(index), "source": image, "digest": found}
        except Exception as error:
            return {"source": image, "failed": one_line_reason(error)}


def refuse_equal_codes(images: Sequence[str], journal: Journal) -> None:
    """Refuses two images of one code: the result of one would replace that of the other."""
    found: dict[str, str] = {}
    for image in images:
        if (other := found.setdefault(journal.public_name(image), image)) != image:
            raise UserError(
                f"{image}: has the same code as {other}, {journal.public_name(image)}; expected one scan for each week "
                "of a patient; move one away, or leave out --anonymise"
            )


class SkippingIteration:
    """The evaluator's iteration: the network and the transforms after it. If it fails, the case is skipped.

    Args:
        journal: records the failures.
        likeness: says which images are unlike the training data, as `engine.state.unlike`; None says nothing.
    """

    def __init__(self, journal: Journal, likeness: Likeness | None = None):
        self.journal, self.likeness = journal, likeness

    def __call__(self, engine: Engine, batch: dict) -> list | dict:
        (image,) = batch["source"]
        if "kept" in batch:
            return []
        if "failed" in batch:
            self.journal.record_failure(image, batch["failed"][0])
            return []
        engine.state.unlike = ""
        try:
            if self.likeness is None:
                return engine._iteration(engine, batch)
            with self.likeness.watching(batch["image"][0], engine.network):
                found = engine._iteration(engine, batch)
            engine.state.unlike = self.likeness.said
            return found
        except Exception as error:
            self.journal.record_failure(image, one_line_reason(error))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # frees the memory of the failed case for the next one
            return []
