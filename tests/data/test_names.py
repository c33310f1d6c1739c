"""What the name of a file tells."""

import pytest

from scripts.data.names import is_written_series, scan_key


@pytest.mark.parametrize(
    "path, key",
    [
        ("d/Case_004_Week0_LFOV.nii.gz", ("004", 0)),
        ("C032_Week7_SEMANTIC.nii", ("032", 7)),
        ("case_4_week_12.nii.gz", ("004", 12)),
        ("seg.NII.GZ", ("seg", None)),
        ("patient7.nii.gz", ("patient7", None)),
    ],
)
def test_scan_key(path, key):
    assert scan_key(path) == key


@pytest.mark.parametrize(
    "name, written",
    [
        ("PAT-01_20260301_s5_t2-axial_image", True),
        ("PAT-01_undated_s5_image", True),
        ("P1a2b3c4d-5e6f7a8b_image", True),
        ("PAT-01_20260301_s5_t2-axial", False),
        ("hip_image", False),
        ("P1a2b3c4d-5e6f7a8b_seg", False),
    ],
)
def test_a_series_that_an_inference_has_written(name, written):
    assert is_written_series(f"d/{name}.nii.gz") == written
