"""Finding images and labels: every known layout, pairing by name, and the messages if it fails."""

import json
from pathlib import Path

import pytest
from helpers import refusal, stubs
from series_samples import make_series

from scripts.data import layouts
from scripts.data.names import case_name

LONG = "semantic_MRs_anon/Case_{}_Week{}_LFOV.nii.gz", "semantic_labels_anon/Case_{}_Week{}_SEMANTIC_LFOV.nii.gz"
PLAIN = LONG[0], "semantic_labels_anon/Case_{}_Week{}_SEMANTIC.nii.gz"
SHORT = "semantic_MRs/C{}_Week{}_LFOV.nii.gz", "semantic_labels_only/C{}_Week{}_SEMANTIC.nii.gz"
FOLDERS = (
    "semantic_MRs_anon/Case_{0}_Week{1}_LFOV.nii/Case_{0}_Week{1}_LFOV.nii",
    "semantic_labels_anon/Case_{0}_Week{1}_SEMANTIC_LFOV.nii/Case_{0}_Week{1}_SEMANTIC_LFOV.nii",
)
DEEPER = "HipMRI/" + LONG[0], "HipMRI/" + LONG[1]
DOUBLED = tuple(name.replace("/", f"/{name.split('/')[0]}/", 1) for name in LONG)
LOWER = tuple(name.replace("Case", "case").replace("Week", "week_") for name in LONG)
MIXED = LONG[0], PLAIN[1][:-3]  # .nii.gz with .nii
SCANS = [("004", 0), ("004", 1), ("032", 0)]


def scans(root, names, keys=SCANS):
    return stubs(root, [name.format(*key) for key in keys for name in names])


def listing(root, **content):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    "names", [LONG, PLAIN, SHORT, FOLDERS, DEEPER, DOUBLED, LOWER, MIXED], ids=lambda names: names[1].format("N", "W")
)
def test_hipmri_names(names, tmp_path):
    scans(tmp_path, names)
    expected = [
        {"image": names[0].format(*key), "label": names[1].format(*key), "patient": key[0], "week": key[1]}
        for key in SCANS
    ]
    assert layouts.find_pairs(tmp_path) == expected
    assert layouts.find_images(tmp_path) == [tmp_path / entry["image"] for entry in expected]


def test_the_folder_may_be_given_as_text(tmp_path):
    assert len(layouts.find_pairs(str(scans(tmp_path, LONG)))) == len(SCANS)


def test_pairs_by_name_where_positions_differ(tmp_path):
    """Sorted by name, the labels are in the reverse order of the images."""
    names = {
        "010": ("a_Case_010_Week2_LFOV", "z_Case_010_Week2_SEMANTIC"),
        "4": ("b_C4_Week2_LFOV", "y_Case_004_Week2"),
    }
    for image, label in names.values():
        stubs(tmp_path, [f"semantic_MRs/{image}.nii.gz", f"semantic_labels/{label}.nii.gz"])
    assert [(e["patient"], e["image"], e["label"]) for e in layouts.find_pairs(tmp_path)] == [
        ("004", "semantic_MRs/b_C4_Week2_LFOV.nii.gz", "semantic_labels/y_Case_004_Week2.nii.gz"),
        ("010", "semantic_MRs/a_Case_010_Week2_LFOV.nii.gz", "semantic_labels/z_Case_010_Week2_SEMANTIC.nii.gz"),
    ]


def test_weeks_are_numbers(tmp_path):
    scans(tmp_path, LONG, [("004", week) for week in (10, 2, 0)])
    pairs = layouts.find_pairs(tmp_path)
    assert [entry["week"] for entry in pairs] == [0, 2, 10]
    assert all(
        f"Week{entry['week']}_" in entry["image"] and f"Week{entry['week']}_" in entry["label"] for entry in pairs
    )


@pytest.mark.parametrize(
    "missing, side, more",
    [
        ([LONG[1].format("004", 1)], "label", ""),
        ([LONG[0].format("032", 0)], "image", ""),
        ([LONG[1].format("004", 0), LONG[1].format("004", 1)], "label", "(and for 1 more)"),
    ],
)
def test_an_image_or_a_label_alone_is_refused(missing, side, more, tmp_path):
    scans(tmp_path, LONG)
    for name in missing:
        (tmp_path / name).unlink()
    message = refusal(layouts.find_pairs, tmp_path)
    left = LONG[0] if side == "label" else LONG[1]
    key = next(key for key in SCANS if missing[0] in (LONG[0].format(*key), LONG[1].format(*key)))
    assert str(tmp_path / left.format(*key)) in message and f"no {side} for it" in message and more in message


@pytest.mark.parametrize(
    "extra, words",
    [
        ("semantic_MRs_anon/C004_Week1.nii", ["C004_Week1.nii", "Case_004_Week1_LFOV.nii.gz", "patient 004, week 1"]),
        ("semantic_labels_anon/Case_4_Week1.nii", ["Case_4_Week1.nii", "Case_004_Week1_SEMANTIC_LFOV.nii.gz"]),
        ("semantic_MRs_anon/scout.nii.gz", ["scout.nii.gz", "Case_004_Week0_LFOV.nii.gz"]),
    ],
)
def test_doubtful_names_are_refused(extra, words, tmp_path):
    stubs(scans(tmp_path, LONG), [extra])
    message = refusal(layouts.find_pairs, tmp_path)
    assert all(word in message for word in words)


def test_hidden_files_and_other_kinds_are_passed_over(tmp_path):
    scans(tmp_path, LONG)
    stubs(tmp_path, ["semantic_MRs_anon/._Case_004_Week0_LFOV.nii.gz", "semantic_MRs_anon/notes.txt"])
    assert len(layouts.find_pairs(tmp_path)) == len(SCANS)


CASES = [f"{folder}/pelvis_{n}.nii.gz" for n in (1, 2) for folder in ("imagesTr", "labelsTr")]


def decathlon_entries(*numbers):
    return [{"image": f"./imagesTr/pelvis_{n}.nii.gz", "label": f"./labelsTr/pelvis_{n}.nii.gz"} for n in numbers]


def test_a_link_to_nothing_is_not_passed_over(tmp_path):
    """It is named when it is read; without it the scan would be missing, and nobody would know."""
    stubs(tmp_path, ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz"])
    (tmp_path / "imagesTr" / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    (tmp_path / "imagesTr" / "folder.nii").symlink_to(tmp_path, target_is_directory=True)
    assert [entry["image"] for entry in layouts.find_pairs(tmp_path)] == ["imagesTr/a.nii.gz", "imagesTr/b.nii.gz"]


def test_decathlon_with_a_list(tmp_path):
    """Only the pairs in the list count."""
    stubs(listing(tmp_path, training=decathlon_entries(2)), CASES)
    assert layouts.find_pairs(tmp_path) == [
        {"image": "imagesTr/pelvis_2.nii.gz", "label": "labelsTr/pelvis_2.nii.gz", "patient": "pelvis_2", "week": None}
    ]


@pytest.mark.parametrize("content", [None, {"labels": {"background": 0, "body": 1}}, {"training": []}])
def test_decathlon_without_a_list(content, tmp_path):
    if content is not None:
        listing(tmp_path, **content)
    stubs(tmp_path, CASES)
    pairs = layouts.find_pairs(tmp_path)
    assert [(e["image"], e["label"], e["patient"]) for e in pairs] == [
        (f"imagesTr/pelvis_{n}.nii.gz", f"labelsTr/pelvis_{n}.nii.gz", f"pelvis_{n}") for n in (1, 2)
    ]


@pytest.mark.parametrize(
    "images, labels",
    [
        (["b_0000", "a_0000"], ["a", "b"]),  # nnU-Net's channel number
        (["case_0001", "case_0002"], ["case_0001", "case_0002"]),  # the number is the case's own
        (["case_0000", "case_0001"], ["case_0000", "case_0001"]),  # likewise, though it begins at 0
        (["case_0001_0000", "case_0002_0000"], ["case_0001", "case_0002"]),
    ],
)
def test_channel_numbers(images, labels, tmp_path):
    stubs(tmp_path, [f"imagesTr/{name}.nii.gz" for name in images] + [f"labelsTr/{name}.nii.gz" for name in labels])
    pairs = [(case_name(e["image"]), case_name(e["label"])) for e in layouts.find_pairs(tmp_path)]
    assert pairs == list(zip(sorted(images), sorted(labels), strict=True))


def test_a_second_channel_is_refused(tmp_path):
    stubs(tmp_path, ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"])
    message = refusal(layouts.find_pairs, tmp_path)
    assert str(tmp_path / "imagesTr/a_0001.nii.gz") in message and "second channel" in message


@pytest.mark.parametrize("label", ["labelsTr/b.nii.gz", "labelsTr/a.nii.gz", "labels.txt"])
@pytest.mark.parametrize("folder", ["imagesTr", "imagesTs"])
def test_a_second_channel_is_no_scan_without_a_label(folder, label, tmp_path):
    """A training, which has only images with labels, may refuse it or may not see it."""
    stubs(tmp_path, ["imagesTr/b_0000.nii.gz", f"{folder}/a_0000.nii.gz", f"{folder}/a_0001.nii.gz", label])
    second = f"{tmp_path / folder / 'a_0001.nii.gz'}: found a second channel"
    for source in (tmp_path, tmp_path / folder):
        assert second in refusal(layouts.find_images, source)
    assert second in refusal(layouts.volume_pairs, tmp_path, unlabelled=True)


def test_a_second_channel_that_a_list_leaves_out_is_no_scan_either(tmp_path):
    stubs(tmp_path, ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"])
    listing(tmp_path, training=[{"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}])
    assert "found a second channel" in refusal(layouts.volume_pairs, tmp_path, unlabelled=True)


@pytest.mark.parametrize("names", [
    ["imagesTs/a_0000", "imagesTs/a_0001", "labelsTr/a_0002"],  # labels have such numbers too
    ["imagesTs/a_0001", "imagesTs/a_0002"],
    ["a_0000", "a_0001"],  # no folder of nnU-Net
])  # fmt: skip
def test_a_number_of_the_case_is_no_channel(names, tmp_path):
    stubs(tmp_path, [f"{name}.nii.gz" for name in names])
    assert [case_name(file) for file in layouts.find_images(tmp_path)] == [Path(name).name for name in names[:2]]


def test_a_list_of_nnunet_names_images_without_their_channel_number(tmp_path):
    """`dataset.json` of nnU-Net v1 lists pelvis_1.nii.gz; the file is pelvis_1_0000.nii.gz."""
    listing(tmp_path, training=decathlon_entries(1, 2))
    stubs(tmp_path, [name.replace("imagesTr/pelvis_1", "imagesTr/pelvis_1_0000") for name in CASES])
    found = [(entry["image"], entry["label"]) for entry in layouts.find_pairs(tmp_path)]
    assert ("imagesTr/pelvis_1_0000.nii.gz", "labelsTr/pelvis_1.nii.gz") in found and len(found) == 2
    assert ("imagesTr/pelvis_2.nii.gz", "labelsTr/pelvis_2.nii.gz") in found
    stubs(tmp_path, ["imagesTr/pelvis_1_0001.nii.gz"])
    assert "pelvis_1_0001.nii.gz: found a second channel" in refusal(layouts.find_pairs, tmp_path)


@pytest.mark.parametrize(
    "training, words",
    [
        (decathlon_entries(1, 3), ["imagesTr/pelvis_3.nii.gz", "dataset.json", "no such file"]),
        ([{"image": "imagesTr/pelvis_1.nii.gz"}], ["dataset.json", "image and label"]),
        (["imagesTr/pelvis_1.nii.gz"], ["dataset.json", "image and label"]),
        (decathlon_entries(1, 1), ["imagesTr/pelvis_1.nii.gz", "same name pelvis_1"]),
    ],
)
def test_a_wrong_decathlon_list_is_refused(training, words, tmp_path):
    stubs(listing(tmp_path, training=training), CASES)
    message = refusal(layouts.find_pairs, tmp_path)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    "text, words", [("{", ["not readable as JSON"]), ("[1]", ["found a list"]), ("\xff", ["JSON"])]
)
def test_a_broken_dataset_json_is_refused(text, words, tmp_path):
    (tmp_path / "dataset.json").write_text(text, encoding="latin-1")
    message = refusal(layouts.find_pairs, tmp_path)
    assert str(tmp_path / "dataset.json") in message and all(word in message for word in words)


@pytest.mark.parametrize("find", [layouts.find_pairs, layouts.find_images])
class TestFoldersWithNothing:
    def test_missing(self, find, tmp_path):
        message = refusal(find, tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in message and "does not exist" in message

    def test_empty(self, find, tmp_path):
        message = refusal(find, tmp_path)
        assert str(tmp_path) in message and "contains no files" in message

    def test_dicom(self, find, tmp_path):
        stubs(tmp_path, ["notes.txt"])
        (tmp_path / "series").mkdir()
        (tmp_path / "series" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(8))
        message = refusal(find, tmp_path)
        assert str(tmp_path) in message and ("labelsTr" in message or "IM0001: no SeriesInstanceUID" in message)

    def test_other_files(self, find, tmp_path):
        message = refusal(find, stubs(tmp_path, ["a.mha", "readme.txt"]))
        assert str(tmp_path) in message and "no images in a known layout" in message


def test_a_file_is_no_dataset(tmp_path):
    stubs(tmp_path, ["a.nii.gz"])
    message = refusal(layouts.find_pairs, tmp_path / "a.nii.gz")
    assert str(tmp_path / "a.nii.gz") in message and "is a file" in message


def test_known_folders_without_images(tmp_path):
    stubs(tmp_path, ["semantic_MRs_anon/notes.txt"])
    assert "found no image in it" in refusal(layouts.find_pairs, tmp_path)


def test_one_image(tmp_path):
    stubs(tmp_path, ["a.nii.gz", "b.txt"])
    assert layouts.find_images(tmp_path / "a.nii.gz") == [tmp_path / "a.nii.gz"]
    message = refusal(layouts.find_images, tmp_path / "b.txt")
    assert str(tmp_path / "b.txt") in message and "NIfTI" in message


@pytest.mark.parametrize(
    "there, expected",
    [
        (["b.nii", "a.nii.gz", "notes.txt", "._a.nii.gz"], ["a.nii.gz", "b.nii"]),
        (["x/b.nii", "a.nii.gz"], ["a.nii.gz", "x/b.nii"]),
        (["a.nii.gz", "a_seg.nii.gz", "out/a_seg.nii"], ["a.nii.gz"]),
        (["a.nii.gz", "a_mask.nii.gz", "a_label.nii", "a_pred.nii", "a_doubt.nii", "c_SEG.nii.gz"], ["a.nii.gz"]),
        (["imagesTs/.keep", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], ["imagesTr/a.nii.gz"]),
        (["imagesTs/c.nii.gz", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], ["imagesTs/c.nii.gz"]),
        (["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], ["imagesTr/a.nii.gz"]),
        (
            ["semantic_MRs_a/C1_Week0.nii", "semantic_MRs_b/C2_Week0.nii", "semantic_labels/C1_Week0.nii"],
            ["semantic_MRs_a/C1_Week0.nii", "semantic_MRs_b/C2_Week0.nii"],
        ),
    ],
)
def test_images_of_a_folder(there, expected, tmp_path):
    assert layouts.find_images(stubs(tmp_path, there)) == [tmp_path / name for name in expected]


@pytest.mark.parametrize("names", [("x/a.nii.gz", "y/a.nii.gz"), ("a.nii", "a.nii.gz")])
def test_two_images_of_one_name_are_refused(names, tmp_path):
    message = refusal(layouts.find_images, stubs(tmp_path, names))
    assert all(str(tmp_path / name) in message for name in names)


@pytest.mark.parametrize("name", ["typo.series", "a_slice_*.png", "*.nii.gz"])
def test_a_path_that_names_nothing_is_refused_before_anything_is_done(name, tmp_path):
    make_series(tmp_path)
    message = refusal(layouts.find_images, tmp_path / name)
    assert message.startswith(str(tmp_path / name)) and "no such" in message


def test_the_pictures_of_a_disc_do_not_hide_its_dicom(tmp_path):
    make_series(tmp_path / "DICOM")
    stubs(tmp_path, ["VIEWER/icons/open.png", "VIEWER/other/open.png"])
    (found,) = layouts.find_images(tmp_path)
    assert found.suffix == ".series" and found.parent == tmp_path


@pytest.mark.parametrize("name", ["PAT-01_20260301_s1_T2-axial", "P1a2b3c4d-5e6f7a8b"])
def test_a_series_that_an_inference_wrote_as_nifti_does_not_hide_it(name, tmp_path):
    make_series(tmp_path / "DICOM")
    stubs(tmp_path, [f"out/{name}{end}.nii.gz" for end in ("_image", "_seg")])
    assert [file.name for file in layouts.find_images(tmp_path)] == ["PAT-01_20260301_s1_T2-axial.series"]
    assert [file.name for file in layouts.find_images(tmp_path / "out")] == [f"{name}_image.nii.gz"]


def test_a_series_among_the_training_images_is_not_hidden_either(tmp_path):
    make_series(tmp_path / "imagesTr" / "A")
    stubs(tmp_path, ["imagesTr/PAT-01_20260301_s1_T2-axial_image.nii.gz", "labelsTr/A.nii.gz"])
    ((image, label),) = layouts.volume_pairs(tmp_path, unlabelled=True)
    assert image.name == "PAT-01_20260301_s1_T2-axial.series" and label == tmp_path / "labelsTr" / "A.nii.gz"


def test_a_picture_beside_nifti_slices_is_no_image(tmp_path):
    slices = [f"keras_slices_test/case_004_week_0_slice_{n}.nii.gz" for n in (0, 1)]
    stubs(tmp_path, [*slices, "keras_slices_test/montage.png"])
    assert [file.name for file in layouts.find_images(tmp_path)] == ["case_004_week_0_slice_*.nii.gz"]


def test_of_dicom_as_of_files_only_the_test_images_are_segmented(tmp_path):
    for folder, patient in (("imagesTr", "A"), ("imagesTs", "B")):
        make_series(tmp_path / folder / patient, PatientID=patient)
    (found,) = layouts.find_images(tmp_path)
    assert found.parent == tmp_path / "imagesTs" and found.name.startswith("B_")


def test_incomplete_results_in_hidden_folders_are_no_files(tmp_path):
    stubs(tmp_path, ["a.nii.gz", ".partial/a.nii.gz", "b/.run/c.nii"])
    assert layouts.find_images(tmp_path) == [tmp_path / "a.nii.gz"]


def test_a_folder_of_test_images_with_none_in_it_is_passed_over(tmp_path):
    make_series(tmp_path / "imagesTr" / "A")
    stubs(tmp_path, ["imagesTs/README.txt"])
    (found,) = layouts.find_images(tmp_path)
    assert found.parent == tmp_path / "imagesTr"
