"""Who trains, who validates, who tests: by patient, or as the data set itself has it."""

import random

from scripts.core.errors import UserError

SPLITS = ("training", "validation", "test")


def split_entries(
    entries: list[dict], validation: float, test: float, folds: int, seed: int, where: str, by_slice: bool = False
) -> list[tuple]:
    """Split and fold of every entry.

    A split that the folders give (`split` of the entries, which is taken out) is kept; where it has no validation, that
    comes out of the training patients. Folds and splits by slice are made of all patients.

    Args:
        entries: with `patient`.
        validation: share of the patients.
        test: share of the patients.
        folds: number of folds, or 0.
        seed: of the shuffle.
        where: the data's folder, for the message.
        by_slice: whether every slice counts as a patient.
    """
    given = [entry.pop("split", None) for entry in entries]
    labelled = {entry["patient"] for entry in entries if "label" in entry}
    if not all(given) or folds or by_slice:
        sides = split_patients(sorted(labelled), validation, test, folds, seed, where)
        return [sides.get(entry["patient"], ("test", None)) for entry in entries]
    if "validation" not in given:
        training = {entry["patient"] for entry, side in zip(entries, given, strict=True) if side == "training"}
        sides = split_patients(sorted(training), validation, 0.0, 0, seed, where)
        given = [sides[e["patient"]][0] if side == "training" else side for e, side in zip(entries, given, strict=True)]
    return [(side, None) for side in given]


def split_patients(patients: list[str], validation: float, test: float, folds: int, seed: int, where: str) -> dict:
    """Split and fold of every patient; a share above 0 gets one patient at least, training never less than one."""
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(
            f"validation {validation} and test {test}: expected shares from 0 to 1 that leave some to train"
        )
    if folds < 0 or folds == 1:
        raise UserError(f"folds is {folds}: expected 0 for one split, or 2 and more")
    if len(patients) < max(2, folds + (test > 0) if folds else 2):
        raise UserError(
            f"{where}: {len(patients)} patient(s), too few to keep them apart; expected {max(2, folds + (test > 0))} "
            "or more (a datalist written by hand may divide them otherwise)"
        )
    order = list(patients)
    random.Random(seed).shuffle(order)
    held_out = min(patient_count(test, len(order)), len(order) - max(2, folds))
    sides: dict = {patient: ("test", None) for patient in order[:held_out]}
    rest = order[held_out:]
    if folds:
        return sides | {patient: ("training", i % folds) for i, patient in enumerate(rest)}
    validating = min(patient_count(validation, len(order)), len(rest) - 1)
    return sides | {p: ("validation" if i < validating else "training", None) for i, p in enumerate(rest)}


def patient_count(part: float, count: int) -> int:
    return max(1, round(part * count)) if part > 0 else 0
