"""Divides patients into training, validation and test, or keeps the data set's own split. The datalist uses it."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from scripts.core.errors import UserError

SPLITS = ("training", "validation", "test")


def split_entries(
    entries: list[dict], validation: float, test: float, folds: int, seed: int, where: str, by_slice: bool = False
) -> list[tuple]:
    """Returns split and fold of every entry.

    A split that the folders give (key `split`, which is removed from the entries) is kept. If it has no validation
    part, some training patients become that part. For folds and for splits by slice it is ignored.

    Args:
        entries: with `patient`.
        validation: share of the patients.
        test: share of the patients.
        folds: number of folds, or 0.
        seed: of the shuffle.
        where: the data's folder, for error messages.
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
    """Returns split and fold of every patient.

    Training gets at least one patient, and so does a share above 0, validation first, if there are enough.
    """
    check_shares(validation, test)
    if folds < 0 or folds == 1:
        raise UserError(f"folds is {folds}: expected 0 for one split, or 2 or more; give another --folds")
    if len(patients) < max(2, folds + (test > 0) if folds else 2):
        raise UserError(
            f"{where}: found {len(patients)} patient(s), too few to split them; expected "
            f"{max(2, folds + (test > 0))} or more; add patients, or write a datalist by hand"
        )
    order = list(patients)
    random.Random(seed).shuffle(order)
    held_out = min(patient_count(test, len(order)), len(order) - max(1 + (validation > 0), folds))
    sides: dict = {patient: ("test", None) for patient in order[:held_out]}
    rest = order[held_out:]
    if folds:
        return sides | {patient: ("training", i % folds) for i, patient in enumerate(rest)}
    validating = min(patient_count(validation, len(order)), len(rest) - 1)
    return sides | {p: ("validation" if i < validating else "training", None) for i, p in enumerate(rest)}


def check_shares(validation: float, test: float) -> None:
    """Refuses shares that are no numbers, or leave nothing for the training."""
    numbers = all(isinstance(share, int | float) for share in (validation, test))
    if not numbers or not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError(
            f"validation is {validation}, test is {test}: expected shares from 0 that sum to less than 1; give others"
        )


def patient_count(part: float, count: int) -> int:
    """Returns how many of `count` patients a share is: at least one, unless the share is 0."""
    return max(1, round(part * count)) if part > 0 else 0


def unshare_patients(
    training: Sequence[Mapping], validation: Sequence[Mapping], patients: Mapping[str, str]
) -> tuple[list, list]:
    """Divides scans anew where a program has divided them by scan, so that no patient is on both sides.

    Validation gets whole patients, first those of whom it has most already, and about as many scans as before.

    Args:
        training: cases with `image`.
        validation: likewise.
        patients: the patient of every image.

    Returns:
        Training and validation cases. Lists that share no patient stay as they are.

    Raises:
        UserError: all scans are of one patient.
    """
    cases = [*training, *validation]
    scans = Counter(patients[case["image"]] for case in cases)
    validated = Counter(patients[case["image"]] for case in validation)
    if all(validated[patient] in (0, count) for patient, count in scans.items()):
        return list(training), list(validation)
    if len(scans) == 1:
        raise UserError(
            f"all {len(cases)} scans are of patient {next(iter(scans))}, so no other patient is left for validation; "
            "add scans of another patient, or train without validation (in MONAI Label: val_split 0, keep_last ticked)"
        )
    order = sorted(scans, key=lambda patient: -validated[patient] / scans[patient])
    chosen, missing = {order[0]}, len(validation) - scans[order[0]]
    for patient in order[1:-1]:  # the last one is left to training
        if abs(missing - scans[patient]) <= abs(missing):
            chosen.add(patient)
            missing -= scans[patient]
    return (
        [case for case in cases if patients[case["image"]] not in chosen],
        [case for case in cases if patients[case["image"]] in chosen],
    )
