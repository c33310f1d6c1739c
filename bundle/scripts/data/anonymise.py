"""Codes in place of the names of patients and cases, for a report that leaves the house."""

import hashlib

from scripts.data.label_maps import label_key
from scripts.data.layouts import scan_key


def patient_code(patient: str, word: str = "") -> str:
    """A code that is the same in every report made with the same word.

    Names as regular as HipMRI's can be found again by trying them all; with a word that stays at home they can't.
    """
    name = label_key(patient)  # as image, truth and prediction share it
    return "P" + hashlib.blake2s(name.encode(), key=hashlib.sha256(word.encode()).digest()).hexdigest()[:8]


def case_code(name: str, patient: str, word: str = "") -> str:
    """Code of the patient and, where there may be several scans, which one it is: `P1a2b3c4d-W0`."""
    week = scan_key(name)[1]
    if week is not None:
        return f"{patient_code(patient, word)}-W{week}"
    scan = label_key(name)
    own = "" if scan == label_key(patient) else "-" + patient_code(scan, word)[1:5]
    return patient_code(patient, word) + own


def secret_word(anonymise: bool | str | int | None) -> str | None:
    """The word that a switch stands for: None where it is off, an empty one for plain True."""
    if anonymise is None or anonymise is False:
        return None
    return "" if anonymise is True else str(anonymise)
