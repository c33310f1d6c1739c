"""From the label maps of one case to its record: measures, volumes and warnings."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes

from scripts.data import plausibility
from scripts.data.anonymise import case_code, patient_code
from scripts.data.label_maps import voxel_ml
from scripts.data.names import case_name, scan_key
from scripts.report.measures import measure_classes
from scripts.report.schema import CaseRecord


def measure_case(
    name: str,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    affine: np.ndarray,
    class_names: Sequence[str],
    *,
    patient: str | None = None,
    tolerance_mm: float = 2.0,
    known: dict | None = None,
    seconds: float | None = None,
) -> CaseRecord:
    """The record of one case, without pictures.

    Args:
        name: path of the case; its name, patient and week are read from it.
        prediction: label map on the image's own grid.
        truth: likewise, or None: then volumes and warnings take the place of measures.
        affine: voxel to RAS millimetres.
        class_names: names of the values 0, 1, ...
        patient: where a data list knows better than the name.
        tolerance_mm: of the surface Dice.
        known: ranges of the training data (`plausibility.training_ranges`), for the warnings.
        seconds: that the prediction took.
    """
    own_patient, week = scan_key(name)
    record = CaseRecord(case_name(name), patient or own_patient, week, {}, seconds)
    if truth is None:
        found = plausibility.describe_labels(prediction, affine, class_names)
        record.warnings = plausibility.find_doubts(found, known)
        record.measures = {
            name: {"status": "predicted" if now["ml"] else "not found", "predicted_ml": now["ml"]}
            for name, now in found.items()
        }
    else:
        spacing = [float(size) for size in voxel_sizes(affine)]
        record.measures = measure_classes(truth, prediction, spacing, class_names, tolerance_mm, voxel_ml(affine))
    return record


def anonymous(record: CaseRecord, word: str) -> CaseRecord:
    """The record with codes in place of the names of case and patient; one that has them already stays as it is."""
    if record.coded:
        return record
    code = case_code(record.case, record.patient, word)
    return replace(
        record,
        case=code,
        patient=patient_code(record.patient, word),
        prediction_file=None,
        reference_file=None,
        coded=True,
    )
