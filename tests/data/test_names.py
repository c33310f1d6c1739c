"""What the name of a file tells."""

import pytest

from scripts.data.names import scan_key


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
