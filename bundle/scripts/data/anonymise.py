"""Codes in place of the names of patients and cases, for reports that are given to others.

Reports and the record of an inference (`run.json`) use them.
"""

import hashlib

from scripts.data.label_maps import label_key
from scripts.data.layouts import scan_key, slice_number


def patient_code(patient: str, word: str = "") -> str:
    """Returns the code of a patient. It is the same in every report that is made with the same secret word.

    Without a word, regular names such as HipMRI's can be recovered by trying all of them. With a word they can't, as
    long as nobody else knows it.
    """
    name = label_key(patient.replace("/", "|"))  # as image, truth and prediction share it; no name is a path
    return "P" + hashlib.blake2s(name.encode(), key=hashlib.sha256(word.encode()).digest()).hexdigest()[:8]


def case_code(name: str, patient: str, word: str = "") -> str:
    """Returns the code of a case: that of the patient and, if there may be several scans, the week: `P1a2b3c4d-W0`. A
    single slice has its number too: `P1a2b3c4d-W0-S7`."""
    week, number = scan_key(name)[1], slice_number(name)
    if week is not None:
        return f"{patient_code(patient, word)}-W{week}" + ("" if number is None else f"-S{number}")
    scan = label_key(name)
    own = "" if scan == label_key(patient) else "-" + patient_code(scan, word)[1:]
    return patient_code(patient, word) + own


def secret_word(anonymise: bool | str | int | None) -> str | None:
    """Returns the secret word of the option `anonymise`: None if it is off, an empty word for True."""
    if anonymise is None or anonymise is False:
        return None
    return "" if anonymise is True else str(anonymise)
