"""A series is read to the place that its headers name, in every orientation."""

import numpy as np
import pytest
from series_samples import PLANES, SHAPE, make_series, same_place

from scripts.core.errors import UserError
from scripts.series.reader import read_series, read_stack

pytest.importorskip("pydicom", reason="the extra dicom is not installed")


@pytest.mark.parametrize("plane", [*PLANES, "oblique"])
def test_every_voxel_is_at_its_place(tmp_path, plane):
    volume, affine = make_series(tmp_path, plane)
    found, placed = read_series(tmp_path)
    assert same_place(volume, affine, found, placed)
    assert np.linalg.det(placed) < 0  # as dcm2niix writes it
    assert not same_place(volume[::-1], affine, found, placed)  # a mirror image is noticed


@pytest.mark.parametrize("plane", [*PLANES, "oblique"])
def test_a_label_map_finds_its_slices_however_its_axes_lie(tmp_path, plane):
    volume, affine = make_series(tmp_path, plane)
    stack = read_stack(tmp_path)
    frames = stack.to_frames(volume, affine)
    assert frames.shape == (len(stack.frames), stack.rows, stack.columns)
    for frame, (index, _) in zip(frames, stack.frames):
        header = stack.headers[index]
        position = np.array(header.ImagePositionPatient, float) * (-1, -1, 1)
        i, j, k = np.rint(np.linalg.inv(affine) @ [*position, 1]).astype(int)[:3]
        assert frame[0, 0] == volume[i, j, k]
    assert same_place(stack.to_volume(frames), stack.nifti_affine, volume, affine)


def test_another_grid_is_refused(tmp_path):
    volume, affine = make_series(tmp_path)
    stack = read_stack(tmp_path)
    moved = affine.copy()
    moved[:3, 3] += (0.07, 0.07, 0.07)
    with pytest.raises(UserError, match=r"a corner 0.12 mm from where"):
        stack.to_frames(volume, moved)
    with pytest.raises(UserError, match=rf"found \({SHAPE[0] - 1}, .* voxels, expected"):
        stack.to_frames(volume[1:], affine)
