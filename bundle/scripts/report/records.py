"""All that a report says of one case: measures, volumes, warnings, pictures."""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes

from scripts.data import plausibility
from scripts.data.anonymise import case_code, patient_code
from scripts.data.layouts import case_name, scan_key
from scripts.report.measures import measure
from scripts.report.strips import strips


def examine(
    name: str,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    affine: np.ndarray,
    class_names: Sequence[str],
    *,
    image: np.ndarray | None = None,
    patient: str | None = None,
    tolerance_mm: float = 2.0,
    known: dict | None = None,
    seconds: float | None = None,
    pictures: bool = True,
) -> dict:
    """The record of one case, of plain text and numbers.

    Args:
        name: file name of the case, which tells patient and week where it can.
        prediction: label map on the image's own grid.
        truth: likewise, or None: then volumes and warnings take the place of measures.
        affine: voxel to RAS millimetres.
        class_names: names of the values 0, 1, ...
        image: volume on the same grid, for the pictures.
        patient: where a list knows better than the name.
        tolerance_mm: of the surface Dice.
        known: what the training data spanned (`plausibility.training_ranges`), for the warnings.
        seconds: that the prediction took.
        pictures: False leaves them out.
    """
    own_patient, week = scan_key(name)
    record: dict = {"case": case_name(name), "patient": patient or own_patient, "week": week, "seconds": seconds}
    record["warnings"] = []
    if truth is None:
        found = plausibility.describe_labels(prediction, affine, class_names)
        record["warnings"] = plausibility.find_doubts(found, known)
        record["measures"] = {
            name: {"status": "predicted" if now["ml"] else "not found", "predicted_ml": now["ml"]}
            for name, now in found.items()
        }
    else:
        voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        spacing = [float(size) for size in voxel_sizes(affine)]
        record["measures"] = measure(truth, prediction, spacing, class_names, tolerance_mm, voxel_ml)
    record["pictures"] = strips(image, truth, prediction, affine, class_names) if pictures else {}
    return record


def anonymous(record: dict, word: str) -> dict:
    """The record with codes in place of the names of case and patient; one that has them already stays as it is."""
    if record.get("coded"):
        return record
    code = case_code(record["case"], record["patient"], word)
    kept = {key: value for key, value in record.items() if key not in ("prediction_file", "reference_file")}
    return {**kept, "coded": True, "case": code, "patient": patient_code(record["patient"], word)}
