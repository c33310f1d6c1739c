"""Label maps of any tool: what is read, what is refused in one line, and how truth and prediction are paired."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal, save_labels, stubs

from scripts.data.label_maps import (
    label_key,
    pair_truth_and_prediction,
    read_labels,
    refuse_other_grid,
)

NAMES = ["background", "body", "prostate"]
LABELS = np.arange(60).reshape(3, 4, 5) % 3
AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_any_type_of_whole_numbers(dtype, name, tmp_path):
    labels, affine = read_labels(save_labels(tmp_path / name, LABELS, AFFINE, dtype), NAMES)
    assert labels.dtype == np.uint8 and np.array_equal(labels, LABELS) and np.array_equal(affine, AFFINE)


def test_rounding_not_truncation(tmp_path):
    """Labels times 0.99999, as some tools write them, would lose a class to truncation."""
    labels, _ = read_labels(save_labels(tmp_path / "a.nii", LABELS * 0.99999, dtype=np.float32), NAMES)
    assert np.array_equal(labels, LABELS)


def test_scaled_values_and_a_trailing_axis(tmp_path):
    image = nib.Nifti1Image((LABELS * 2).astype(np.int16)[..., None], AFFINE)
    image.header.set_slope_inter(0.5, 0)
    nib.save(image, tmp_path / "a.nii.gz")
    stored = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz")
    assert stored.shape == (3, 4, 5, 1)
    assert np.array_equal(read_labels(tmp_path / "a.nii.gz", NAMES)[0], LABELS)


@pytest.mark.parametrize(
    "values, dtype, found, expected",
    [
        (LABELS + 1, np.uint8, "found label 3", "expected 0 to 2 (background, body, prostate)"),
        (LABELS - 1, np.int16, "found label -1", "expected 0 to 2"),
        (LABELS / 2, np.float32, "found 0.5, not a label", "whole numbers from 0 to 2"),
        (np.where(LABELS == 2, np.nan, LABELS), np.float32, "not finite", "labels 0 to 2"),
        (np.where(LABELS == 2, np.inf, LABELS), np.float64, "not finite", "labels 0 to 2"),
        (np.stack([LABELS, LABELS], -1), np.uint8, "found shape (3, 4, 5, 2)", "one volume of 3 axes"),
        (LABELS[0], np.uint8, "found shape (4, 5)", "one volume of 3 axes"),
        (LABELS + 1j, np.complex64, "found values of type complex64", "one number for each voxel"),
    ],
)
def test_what_is_no_label_map(values, dtype, found, expected, tmp_path):
    file = save_labels(tmp_path / "a.nii.gz", values, dtype=dtype)
    message = refusal(read_labels, file, NAMES)
    assert message.startswith(f"{file}: ") and found in message and expected in message


def test_colours_are_refused(tmp_path):
    colours = np.zeros(LABELS.shape, [(channel, "u1") for channel in "RGB"])
    nib.save(nib.Nifti1Image(colours, AFFINE), tmp_path / "a.nii.gz")
    assert "expected one number for each voxel" in refusal(read_labels, tmp_path / "a.nii.gz", NAMES)


@pytest.mark.parametrize("content", [b"", b"no image", "half", "flipped"])
def test_an_incomplete_file(content, tmp_path):
    file = save_labels(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 3, (40, 40, 40)))
    whole = file.read_bytes()
    if content == "half":
        content = whole[: len(whole) // 2]
    elif content == "flipped":
        content = gzip.compress(gzip.decompress(whole)[:400])
    file.write_bytes(content)
    message = refusal(read_labels, file, NAMES)
    assert message.startswith(f"{file}: not readable") and "write it again" in message


@pytest.mark.parametrize("shift, refused", [(0.0, False), (0.05, False), (0.2, True), (-3.0, True)])
def test_another_affine(shift, refused, tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] = shift
    call = refuse_other_grid, tmp_path / "a.nii", LABELS, moved, (LABELS, AFFINE), "truth.nii"
    if refused:
        assert f"{abs(shift):.2f} mm from where truth.nii" in refusal(*call)
    else:
        call[0](*call[1:])


def test_another_shape(tmp_path):
    message = refusal(refuse_other_grid, tmp_path / "a.nii", LABELS[1:], AFFINE, (LABELS, AFFINE), "truth.nii")
    assert "found shape (2, 4, 5), expected (3, 4, 5) as truth.nii has" in message


@pytest.mark.parametrize(
    "names, key",
    [
        (
            ["Case_004_Week0_LFOV.nii.gz", "Case_004_Week0_SEMANTIC_LFOV.nii", "C004_Week0_LFOV_seg.nii.gz"],
            "004 week 0",
        ),
        (["hippocampus_001.nii.gz", "hippocampus_001_seg.nii", "hippocampus_001_0000.nii.gz"], "hippocampus_001"),
        (["hippocampus_001.nii.gz", "hippocampus_001_0000_seg.nii.gz"], "hippocampus_001"),
        (["a.nii.gz", "a_label.nii", "a_pred.nii", "a_mask.nii", "a_SEG.nii"], "a"),
        (["a_week.nii"], "a_week"),
        (
            ["case_004_week_0_slice_7.nii.gz", "seg_004_week_0_slice_7.nii.gz", "c4_week0_slice_07_seg.nii"],
            "004 week 0 slice 7",
        ),
        (["case_004_week_0_slice_*.nii.gz", "seg_004_week_0_slice_*.nii.gz"], "004 week 0"),
    ],
)
def test_one_key_for_image_truth_and_prediction(names, key):
    assert {label_key(name) for name in names} == {key}


def test_pairs_and_what_has_no_partner(tmp_path):
    truth = stubs(tmp_path / "truth", [f"Case_{n:03d}_Week0_SEMANTIC_LFOV.nii.gz" for n in (4, 5, 6)])
    prediction = stubs(tmp_path / "pred", [f"Case_{n:03d}_Week0_LFOV_seg.nii.gz" for n in (5, 6, 7)])
    stubs(prediction, ["Case_005_Week0_LFOV.nii.gz", "notes.txt"])
    pairs, problems = pair_truth_and_prediction(truth, prediction)
    assert [(a.name[:8], b.name) for a, b in pairs] == [
        ("Case_005", "Case_005_Week0_LFOV.nii.gz"),
        ("Case_006", "Case_006_Week0_LFOV_seg.nii.gz"),
    ]
    assert all(len(line.splitlines()) == 1 for line in problems)
    for name, reason in (
        ("Case_005_Week0_LFOV_seg.nii.gz", "the same case as Case_005_Week0_LFOV.nii.gz"),
        ("Case_004_Week0_SEMANTIC_LFOV.nii.gz", "no prediction for it"),
        ("Case_007_Week0_LFOV_seg.nii.gz", "no truth for it"),
    ):
        assert sum(f"{name}: {reason}" in line for line in problems) == 1
    assert len(problems) == 3


def test_slices_are_cases_of_their_own(tmp_path):
    truth = stubs(tmp_path / "truth", [f"seg_004_week_{n % 2}_slice_{n}.nii.gz" for n in range(8)])
    prediction = stubs(tmp_path / "pred", [f"case_004_week_{n % 2}_slice_{n}_seg.nii.gz" for n in range(8)])
    pairs, problems = pair_truth_and_prediction(truth, prediction)
    assert len(pairs) == 8 and problems == []
    assert all(a.name.split("_")[5].split(".")[0] == b.name.split("_")[5] for a, b in pairs)


def test_folders_that_have_nothing_in_common(tmp_path):
    truth, prediction = stubs(tmp_path / "truth", ["a.nii"]), stubs(tmp_path / "pred", ["b.nii", "b_seg.nii"])
    assert "(2 and 1 NIfTI files found)" in refusal(pair_truth_and_prediction, truth, prediction)
    assert "prediction does not exist" in refusal(pair_truth_and_prediction, truth, tmp_path / "nowhere")
    assert "truth is a file" in refusal(pair_truth_and_prediction, truth / "a.nii", prediction)
