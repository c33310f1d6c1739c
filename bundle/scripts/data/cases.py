"""The cases of a run: from the datalist, or from another program that has put lists of its own into the configuration.

`train::dataset::data` and `validate::dataset::data` are the ids by which programs such as MONAI Label give their cases
to a bundle. Everything in a run that asks for the cases is given what `cases_of_run` finds there.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset

from scripts.core.errors import UserError
from scripts.data.names import case_name, patient_of
from scripts.data.pairing import index_by_key
from scripts.data.splits import SPLITS, unshare_patients

logger = logging.getLogger(__name__)


class Split(list):
    """The cases of one split, which know the datalist that they are from.

    Args:
        cases: dictionaries with `image` and `label`.
        origin: all that the datalist holds, see `scripts.data.datalist.prepare_datalist`.
    """

    def __init__(self, cases: Sequence[dict], origin: dict):
        super().__init__(cases)
        self.origin = origin


def cases_of_run(
    training: Sequence[Mapping] | None = None,
    validation: Sequence[Mapping] | None = None,
    keep_patients_together: bool = False,
) -> dict[str, Any]:
    """Returns the lists that a run works on, with what is known of them.

    Args:
        training: dictionaries with `image`, `label` and, if it is known, `patient`; None where a run has none.
        validation: likewise.
        keep_patients_together: divides lists of another program anew if a patient is in both.

    Returns:
        `training`, `validation` and `test`, lists of cases; `patients`, by image; `description`. If the lists are from
        the datalist, that is its content, with its path as `datalist`.
    """
    given = {"train": training, "validate": validation}
    lists = {f"{name}::dataset::data": cases for name, cases in given.items() if cases is not None}
    origins = [getattr(cases, "origin", None) for cases in lists.values()]
    if origins[0] is not None and all(origin is origins[0] for origin in origins):
        return origins[0]
    every = [check_case(case, name) for name, cases in lists.items() for case in cases]
    patients = {case["image"]: patient_of(case) for case in every}
    sides = list(training or []), list(validation or [])
    if keep_patients_together:
        sides = divide_anew(*sides, patients)
    return {
        "training": sides[0],
        "validation": sides[1],
        "test": [],
        "patients": patients,
        "description": f"{len(training or validation or [])} cases listed by another program",
    }


def divide_anew(training: list, validation: list, patients: Mapping[str, str]) -> tuple[list, list]:
    """Moves scans where a patient is on both sides, see `unshare_patients`, and says so."""
    sides = unshare_patients(training, validation, patients)
    if sides != (training, validation):
        held_out = ", ".join(dict.fromkeys(patients[case["image"]] for case in sides[1]))
        logger.warning(
            f"a patient was in training and in validation; now {len(sides[0])} scans are for training and "
            f"{len(sides[1])} for validation, all those of patient {held_out}"
        )
    return sides


def hand_over(cases: Mapping, training: CacheDataset, validation: CacheDataset) -> None:
    """Gives the datasets the cases of the run, where these are not the ones that they have.

    Args:
        cases: as from `cases_of_run`.
        training: the dataset whose list went into it.
        validation: likewise.
    """
    for split, dataset in (("training", training), ("validation", validation)):
        if list(dataset.data) != cases[split]:
            dataset.set_data(cases[split])


def check_case(case: object, name: str) -> Mapping:
    """Refuses what is not a case with an image and a label."""
    if isinstance(case, Mapping) and all(isinstance(case.get(key), str) for key in ("image", "label")):
        return case
    raise UserError(f'{name}: found {case!r}; expected cases such as {{"image": "a.nii.gz", "label": "a_seg.nii.gz"}}')


def labelled_cases(data: Mapping, split: str) -> Split:
    """Returns what an evaluation scores: the cases of a split of the datalist that have a label."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}: expected one of {', '.join(SPLITS)} (--split NAME)")
    found = [case for case in data[split] if "label" in case]
    if not found:
        others = [name for name in SPLITS if any("label" in case for case in data[name])]
        raise UserError(
            f"no case under {split} has a label; expected one or more to compute scores, or say --split {others[-1]}"
            if others
            else "no case has a label; expected one or more in the datalist to compute scores; add labels to it"
        )
    index_by_key((Path(case["image"]) for case in found), case_name)
    if len(found) < len(data[split]):
        logger.warning(
            f"{len(data[split]) - len(found)} of {len(data[split])} {split} cases have no label and are not scored"
        )
    return Split(found, data[split].origin)
