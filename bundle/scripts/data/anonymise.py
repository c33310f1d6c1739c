"""Codes in place of the names of patients and cases, for reports that are given to others.

Reports and the record of an inference (`run.json`) use them.
"""

import hashlib

from scripts.data.label_maps import label_key
from scripts.data.names import scan_key, slice_number


def patient_code(patient: str, word: str = "") -> str:
    """Returns the code of a patient. It is the same in every report that is made with the same secret word.

    Without a word, regular names such as HipMRI's can be recovered by trying all of them. With a word they can't, as
    long as nobody else knows it.
    """
    name = label_key(patient.replace("/", "|"))  # as image, truth and prediction share it; no name is a path
    return "P" + hashlib.blake2s(name.encode(), key=hashlib.sha256(word.encode()).digest()).hexdigest()[:8]


def case_code(name: str, patient: str, word: str = "") -> str:
    """Returns the code of a case: that of the patient and, if there may be several scans, the week: `P1a2b3c4d-W0`. A
    single slice has its number too: `P1a2b3c4d-W0-S7`. A name that does not tell the patient adds a code of its own."""
    (named, week), number = scan_key(name), slice_number(name)
    code = patient_code(patient, word)
    if week is not None:
        code += f"-W{week}" + ("" if number is None else f"-S{number}")
    told = label_key(name) == label_key(patient) if week is None else named == patient
    return code if told else f"{code}-{patient_code(label_key(name), word)[1:]}"


def secret_word(anonymise: bool | str | int | None) -> str | None:
    """Returns the secret word of the option `anonymise`: None if it is off, an empty word for True."""
    if anonymise is None or anonymise is False:
        return None
    return "" if anonymise is True else str(anonymise)
