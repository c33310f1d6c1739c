"""Which images have a label."""

import json
from fnmatch import fnmatch
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import refusal
from PIL import Image
from series_samples import make_series

from scripts.next.scans import find_scans


def volume(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), file)
    return file


def slice_file(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2), np.uint8), np.eye(4)), file)
    return file


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(file)
    return file


def names(found: list[dict]) -> list[str]:
    return [Path(one["image"]).name for one in found]


@pytest.mark.parametrize("write, images, label", [
    (volume, ("imagesTr/a.nii.gz", "imagesTr/b.nii.gz"), "labelsTr/a.nii.gz"),
    (volume, ("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz"), "labelsTr/a.nii.gz"),
    (volume, ("imagesTr/a.nii.gz", "imagesTs/b.nii.gz"), "labelsTr/a.nii.gz"),
    (volume, ("imagesTr/scan_0001.nii.gz", "imagesTr/scan_0000.nii.gz"), "labelsTr/scan_0001.nii.gz"),
    (volume, ("imagesTr/a_0000.nii.gz", "imagesTs/b_0001.nii.gz"), "labelsTr/a_0000.nii.gz"),
    (volume, ("scan_0001.nii.gz", "scan_0002.nii.gz"), "labels/final/scan_0001.nii.gz"),
    (volume, ("a.nii.gz", "b.nii.gz"), "labels/final/a.nii.gz"),
    (volume, ("semantic_MRs/Case_001_Week0_LFOV.nii.gz", "semantic_MRs/Case_002_Week0_LFOV.nii.gz"),
     "semantic_labels/Case_001_Week0_SEMANTIC_LFOV.nii.gz"),
    (picture, ("image/cmr1.png", "image/cmr2.png"), "mask/cmr1_mask.png"),
    (slice_file, ("keras_slices_train/case_1_week_0_slice_0.nii.gz",
                  "keras_slices_train/case_2_week_0_slice_0.nii.gz"),
     "keras_slices_seg_train/seg_1_week_0_slice_0.nii.gz"),
    (slice_file, ("keras_slices_test/case_2_week_0_slice_0.nii.gz",
                  "keras_slices_train/case_1_week_0_slice_0.nii.gz"),
     "keras_slices_seg_test/seg_2_week_0_slice_0.nii.gz"),
    (picture, ("train/image/cmr1.png", "test/image/cmr2.png"), "train/mask/cmr1_mask.png"),
    (picture, ("TCGA_1/TCGA_1_7.tif", "TCGA_2/TCGA_2_7.tif"), "TCGA_1/TCGA_1_7_mask.tif"),
])  # fmt: skip
def test_scans_with_a_label_are_told_from_those_without(write, images, label, tmp_path):
    for name in (*images, label):
        write(tmp_path / name)
    found = find_scans(str(tmp_path))
    assert len(found["labelled"]) == len(found["unlabelled"]) == 1
    assert fnmatch(Path(images[0]).name, names(found["labelled"])[0])  # a stack has * in place of a number


@pytest.mark.parametrize("label, labelled, unlabelled", [
    ("seg/c1_gt.nii.gz", ["c1.nii.gz"], ["c2.nii.gz"]),
    ("seg/later.nii.gz", [], ["c1.nii.gz", "c2.nii.gz"]),  # listed before it is drawn
])  # fmt: skip
def test_a_dataset_json_names_the_labels(label, labelled, unlabelled, tmp_path):
    for name in ("img/c1.nii.gz", "img/c2.nii.gz", "seg/c1_gt.nii.gz", "seg/c3_gt.nii.gz"):
        volume(tmp_path / name)
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "./img/c1.nii.gz", "label": label}]}))
    found = find_scans(str(tmp_path))
    assert names(found["labelled"]) == labelled and names(found["unlabelled"]) == unlabelled


def test_the_label_of_a_series_has_the_name_of_its_folder_or_its_own(tmp_path):
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    for number, folder in enumerate(("a", "b", "c")):
        make_series(tmp_path / "imagesTr" / folder, seed=number, SeriesNumber=number)
    volume(tmp_path / "labelsTr" / "a.nii.gz")
    volume(tmp_path / "labelsTr" / "PAT-01_20260301_s1_T2-axial.nii.gz")
    found = find_scans(str(tmp_path))
    assert names(found["labelled"]) == [f"PAT-01_20260301_s{number}_T2-axial.series" for number in (0, 1)]
    assert names(found["unlabelled"]) == ["PAT-01_20260301_s2_T2-axial.series"]
    assert names(find_scans(str(tmp_path), 2)["unlabelled"]) == names(found["unlabelled"])
    volume(tmp_path / "imagesTr" / "d.nii.gz")
    assert "has images that are no DICOM series" in refusal(find_scans, str(tmp_path), 2)


def test_results_of_earlier_runs_are_no_scans(tmp_path):
    for name in ("cmr1.png", "cmr1_seg.png", "cmr2.png"):
        picture(tmp_path / "pictures" / "image" / name)
    picture(tmp_path / "pictures" / "mask" / "cmr1_mask.png")
    volume(tmp_path / "volumes" / "imagesTr" / "a.nii.gz")
    volume(tmp_path / "volumes" / "imagesTr" / "a_seg.nii.gz")
    assert names(find_scans(str(tmp_path / "pictures"))["unlabelled"]) == ["cmr2.png"]
    assert names(find_scans(str(tmp_path / "volumes"))["unlabelled"]) == ["a.nii.gz"]


def test_a_datalist_says_it_itself(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "a_label.nii.gz"):
        volume(tmp_path / name)
    listed = {"training": [{"image": "a.nii.gz", "label": "a_label.nii.gz"}], "test": [{"image": "b.nii.gz"}]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    found = find_scans(str(tmp_path / "list.json"))
    assert names(found["labelled"]) == ["a.nii.gz"] and names(found["unlabelled"]) == ["b.nii.gz"]
    assert "names each of its images; leave --series out" in refusal(find_scans, str(tmp_path / "list.json"), 5)


def test_two_scans_of_one_name_would_share_what_is_known_of_them(tmp_path):
    for name in ("one/t2.nii.gz", "two/t2.nii.gz"):
        volume(tmp_path / name)
    (tmp_path / "list.json").write_text(json.dumps({"test": [{"image": "one/t2.nii.gz"}, {"image": "two/t2.nii.gz"}]}))
    assert "the same name t2" in refusal(find_scans, str(tmp_path / "list.json"))


def test_where_every_scan_has_a_label_there_is_nothing_to_choose(tmp_path):
    volume(tmp_path / "a.nii.gz")
    volume(tmp_path / "labels" / "final" / "a.nii.gz")
    assert "all 1 scans have a label; expected some without" in refusal(find_scans, str(tmp_path))
