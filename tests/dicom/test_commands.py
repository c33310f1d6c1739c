"""The command `python -m scripts.dicom`: label maps out to DICOM, and DICOM of any program in to label maps."""

import re
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="the extra dicom is not installed")

from helpers import refusal, save_labels
from pydicom.dataset import Dataset, FileMetaDataset
from segment_samples import CLASSES, make_case
from series_samples import SHAPE, edit, make_series, same_place

from scripts.core.commands import run_command
from scripts.data.anonymise import patient_code
from scripts.data.layouts import find_pairs
from scripts.dicom.__main__ import COMMANDS
from scripts.dicom.commands import export, list_series
from scripts.dicom.importing import import_structures
from scripts.series.reader import read_stack


@pytest.fixture
def case(tmp_path):
    """A series `series`, and `case_seg.nii.gz` on its grid with axes in another order."""
    _, stack, labels, affine = make_case(tmp_path / "series", "oblique")
    turn = np.array([[0, 0, -1, SHAPE[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    file = save_labels(tmp_path / "case_seg.nii.gz", labels[::-1].transpose(1, 2, 0), affine @ turn)
    return file, stack, labels, affine


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts.dicom", *map(str, arguments)])
    run_command(COMMANDS, name="scripts.dicom")


def imported(folder) -> tuple[np.ndarray, np.ndarray]:
    (file,) = folder.glob("*.nii.gz")
    image = nib.load(file)
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize(
    "format, ending", [("dicom_seg", "seg"), ("dicom_labelmap", "labelmap"), ("rtstruct", "rtstruct")]
)
def test_out_and_back(tmp_path, monkeypatch, capsys, case, format, ending):
    file, _, labels, affine = case
    series, out, back = tmp_path / "series", tmp_path / "out", tmp_path / "back"
    run(monkeypatch, "export", "--labels", file, "--series", series, "--output_dir", out, "--formats", format)
    assert [path.name for path in out.iterdir()] == [f"case_{ending}.dcm"]
    run(monkeypatch, "import", "--files", out, "--series", series, "--output_dir", back)
    assert "body, bones, bladder, prostate" in capsys.readouterr().out
    found, placed = imported(back)
    if format == "rtstruct":  # the outline of the patient has filled the hole of the ring
        hole = (found == 1) & (np.asarray(read_stack(series).to_volume(case_frames(case))) == 0)
        assert hole.any()
        found = np.where(hole, 0, found)
    assert same_place(labels, affine, found, placed)
    assert not same_place(labels[::-1], affine, found, placed)
    (name,) = (path.name for path in back.iterdir())
    assert name == "PAT-01_20260301_s1_T2-axial.nii.gz"  # as the series is called, so that the two are a pair


def case_frames(case) -> np.ndarray:
    _, stack, labels, affine = case
    return stack.to_frames(labels, affine)


def test_codes_instead_of_names_and_back(tmp_path, case):
    file, _, labels, affine = case
    series, out, back = str(tmp_path / "series"), tmp_path / "out", tmp_path / "back"
    export(file, series, out, "dicom_seg", anonymise="secret")
    (made,) = out.iterdir()
    assert re.fullmatch(f"{patient_code('PAT 01', 'secret')}-[0-9a-f]{{8}}_seg.dcm", made.name)
    assert "no series in" in refusal(import_structures, made, series, back)
    assert "no series in" in refusal(import_structures, made, series, back, anonymise="another")
    import_structures(made, series, back, anonymise="secret")
    assert same_place(labels, affine, *imported(back))


def test_two_series_and_two_patients_have_codes_of_their_own(tmp_path):
    """Also where the number of a patient is not fit for the name of a file, or missing."""
    out = tmp_path / "out"
    numbers = ["850101/1234", "790303/1234", "850101/1234", None]
    for number, patient in enumerate(numbers):
        folder = tmp_path / f"series_{number}"
        facts = {"PatientID": patient or "", "PatientName": "DOE^JOHN", "StudyDate": f"2026030{number + 1}"}
        _, _, labels, affine = make_case(folder, SeriesNumber=number + 1, **facts)
        file = save_labels(tmp_path / f"case_{number}_seg.nii.gz", labels, affine)
        export(file, str(folder), out, "dicom_seg", anonymise="secret")
    found = [pydicom.dcmread(file, stop_before_pixels=True).PatientID for file in sorted(out.iterdir())]
    assert len(found) == 4 and len(set(found)) == 3


@pytest.mark.parametrize("columns", [14, 15, 17, 19])
def test_a_seg_whose_frames_begin_within_a_byte(tmp_path, columns):
    random = np.random.default_rng(columns).integers(0, 3, (columns, 17, 9)).astype(np.uint8)
    _, _, labels, affine = make_case(tmp_path / "series", labels=random)
    file = save_labels(tmp_path / "case_seg.nii.gz", labels, affine)
    export(file, str(tmp_path / "series"), tmp_path / "out", "dicom_seg")
    import_structures(tmp_path / "out", str(tmp_path / "series"), tmp_path / "back")
    assert same_place(labels, affine, *imported(tmp_path / "back"))


def test_a_class_without_a_code_is_named(tmp_path, capsys, case):
    names = [*CLASSES[:-1], "seminal vesicles"]
    export(case[0], tmp_path / "series", tmp_path / "out", "dicom_seg", class_names=names)
    assert 'class "seminal vesicles" has no code' in capsys.readouterr().out


def test_a_file_finds_its_series_among_several(tmp_path, case):
    file, stack, labels, affine = case
    make_series(tmp_path / "others" / "a", seed=1, SeriesNumber=7, SeriesDescription="T1")
    make_series(tmp_path / "others" / "b", "coronal", seed=2, PatientID="PAT 02")
    export(file, tmp_path / "series", tmp_path / "out", "dicom_seg")
    (tmp_path / "series").rename(tmp_path / "others" / "c")
    import_structures(tmp_path / "out", str(tmp_path / "others"), tmp_path / "back")
    assert same_place(labels, affine, *imported(tmp_path / "back"))


def test_what_comes_in_is_a_data_set_to_train_on(tmp_path, case):
    file, *_ = case
    (tmp_path / "data").mkdir()
    (tmp_path / "series").rename(tmp_path / "data" / "imagesTr")
    images = tmp_path / "data" / "imagesTr"
    export(file, images, tmp_path / "out", "rtstruct")
    import_structures(tmp_path / "out", str(images), tmp_path / "data" / "labelsTr")
    (pair,) = find_pairs(tmp_path / "data")
    assert pair["image"] == "imagesTr/PAT-01_20260301_s1_T2-axial.series"
    assert pair["label"] == "labelsTr/PAT-01_20260301_s1_T2-axial.nii.gz"


def test_by_the_frame_of_reference_where_the_images_are_others(tmp_path, capsys, case):
    file, _, labels, affine = case
    export(file, tmp_path / "series", tmp_path / "out", "rtstruct")
    make_series(tmp_path / "again", "oblique", SeriesDescription="T1")  # the same patient, study and coordinates
    plan = edit(tmp_path / "again" / "0001.dcm", tmp_path / "again" / "plan.dcm", SeriesInstanceUID="1.2.3", Rows=None)
    assert pydicom.dcmread(plan).FrameOfReferenceUID == case[1].headers[0].FrameOfReferenceUID
    import_structures(tmp_path / "out", str(tmp_path / "again"), tmp_path / "back")
    assert "placed by their frame of reference" in capsys.readouterr().out
    assert (imported(tmp_path / "back")[0] == 3).sum() == (labels == 3).sum()


def test_an_empty_frame_of_reference_is_no_common_one(tmp_path, case):
    make_series(tmp_path / "other", "oblique", FrameOfReferenceUID="")
    file = structure_set(tmp_path / "rt", case[1], {"bladder": [square(2.5, 5.5, 4)]})
    content = pydicom.dcmread(file)
    content.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = ""
    content.save_as(file)
    assert "no series in" in refusal(import_structures, file, str(tmp_path / "other"), tmp_path / "back")


def structure_set(folder, stack, regions, kind="CLOSED_PLANAR"):
    """An RTSTRUCT as another program may write it: by explicit syntax, and without references to images.

    Args:
        folder: of the file.
        stack: the series.
        regions: for every name contours as lists of (column, row, slice).
        kind: of the contours.
    """
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.4", "RTSTRUCT"
    frame = Dataset()
    frame.FrameOfReferenceUID = stack.headers[0].FrameOfReferenceUID
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), 1):
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            places = np.c_[np.array(points, float), np.ones(len(points))] @ stack.affine.T
            contour.ContourData = [f"{value:.3f}" for value in places[:, :3].ravel()]
            drawn.ContourSequence.append(contour)
        made.StructureSetROISequence.append(region)
        made.ROIContourSequence.append(drawn)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    folder.mkdir(exist_ok=True)
    made.save_as(folder / "rt.dcm", enforce_file_format=True)
    return folder / "rt.dcm"


def square(low, high, place, clockwise=False):
    corners = [(low, low, place), (high, low, place), (high, high, place), (low, high, place)]
    return corners[::-1] if clockwise else corners


def test_a_class_that_names_gives_to_a_structure_is_that_structure_alone(tmp_path, capsys, case):
    """Else the label would be both together, where a person has chosen one."""
    regions = {
        "CTV prostate": [square(2.5, 5.5, 4)],
        "Prostate": [square(0.6, 8.4, 4)],
        "rectum": [square(0.6, 2.4, 2)],
    }
    file = structure_set(tmp_path / "rt", case[1], regions)
    import_structures(file, str(tmp_path / "series"), tmp_path / "back", names={"ctv_prostate": "prostate"})
    assert "no class: Prostate" in capsys.readouterr().out
    found, _ = imported(tmp_path / "back")
    assert (found == 5).sum() == 9 and (found == 4).sum() == 4


def test_contours_of_other_programs(tmp_path, capsys, case):
    stack = case[1]
    regions = {
        "PROSTATE ": [square(0.6, 3.4, 2.1), square(6.5, 8.5, 2), square(1.5, 2.5, 1.95, clockwise=True)],
        "Blase": [square(2.5, 5.5, 4), square(3.5, 6.5, 4), square(2.5, 5.5, 4)],  # an overlap, and one twice
        "GTV": [square(2.5, 5.5, 4)],
        "rectum": [square(1.5, 4.5, 5.4), square(1.5, 4.5, 60), square(2.5, 3.5, 4), square(5.5, 7.5, 7)],
    }
    file = structure_set(tmp_path / "rt", stack, regions)
    import_structures(file, str(tmp_path / "series"), tmp_path / "back", names={"blase": "bladder"})
    said = capsys.readouterr().out
    assert "no class: GTV" in said and "rectum: 2 contour(s) lie on no slice of the series" in said
    assert (
        "rectum: 2 slices between its first and its last one have no contour" in said and said.count("no contour") == 1
    )
    found, placed = imported(tmp_path / "back")
    frames = stack.to_frames(found, placed)
    expected = np.zeros_like(frames)
    expected[2, 1:4, 1:4] = 5
    expected[2, 2, 2] = 0  # the inner contour is a hole
    expected[2, 7:9, 7:9] = 5
    expected[4, 3:6, 3:6] = expected[4, 4:7, 4:7] = 3
    expected[4, 3, 3] = 4  # the later class wins
    expected[7, 6:8, 6:8] = 4
    assert np.array_equal(frames, expected)


def test_contours_that_exclude_each_other(tmp_path, case):
    stack = case[1]
    contours = [square(1.5, 5.5, 4), square(3.5, 7.5, 4)]
    file = structure_set(tmp_path / "rt", stack, {"bladder": contours}, "CLOSEDPLANAR_XOR")
    import_structures(file, str(tmp_path / "series"), tmp_path / "back")
    frames = stack.to_frames(*imported(tmp_path / "back"))
    assert frames[4, 4, 4] == 0 and frames[4, 2, 2] == frames[4, 6, 6] == 3


def test_points_and_lines_are_no_contours(tmp_path, case):
    for kind in ("POINT", "OPEN_PLANAR"):
        file = structure_set(tmp_path / "rt", case[1], {"bladder": [square(1.5, 5.5, 4)]}, kind)
        assert "no voxel of" in refusal(import_structures, file, str(tmp_path / "series"), tmp_path / "back")


def test_an_outline_of_the_patient_is_known_by_its_kind(tmp_path, case):
    stack = case[1]
    regions = {"Skin": [square(0.5, 9.5, 4)], "bladder": [square(2.5, 5.5, 4)]}
    file = structure_set(tmp_path / "rt", stack, regions)
    content = pydicom.dcmread(file)
    seen = Dataset()
    seen.ObservationNumber = seen.ReferencedROINumber = 1
    seen.RTROIInterpretedType = "EXTERNAL"
    content.RTROIObservationsSequence = [seen]
    content.save_as(file)
    import_structures(file, str(tmp_path / "series"), tmp_path / "back")
    frames = stack.to_frames(*imported(tmp_path / "back"))
    assert frames[4, 1, 1] == 1 and frames[4, 4, 4] == 3


def test_a_seg_of_shares_is_cut_at_one_half(tmp_path, case):
    import highdicom as hd

    stack = case[1]
    columns, rows, slices = stack.shape
    shares = np.zeros((slices, rows, columns), np.float32)
    shares[3, 2:6, 2:6], shares[3, 6, 2:6] = 0.6, 0.4
    code = hd.sr.CodedConcept("41216001", "SCT", "Prostate")
    kind = hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
    made = hd.seg.Segmentation(
        [stack.headers[index] for index, _ in stack.frames], shares, "FRACTIONAL",
        [hd.seg.SegmentDescription(1, "P", kind, code, "MANUAL")],
        "1.2.3", 1, "1.2.4", 1, "maker", "model", "1", "7",
    )  # fmt: skip
    made.save_as(tmp_path / "shares.dcm")
    import_structures(tmp_path / "shares.dcm", str(tmp_path / "series"), tmp_path / "back")  # found by its code
    frames = stack.to_frames(*imported(tmp_path / "back"))
    assert (frames[3, 2:6, 2:6] == 5).all() and np.count_nonzero(frames) == 16


def test_a_seg_on_another_grid_is_refused(tmp_path, case):
    file, *_ = case
    export(file, tmp_path / "series", tmp_path / "out", "dicom_seg")
    (made,) = (tmp_path / "out").iterdir()
    content = pydicom.dcmread(made)
    for group in content.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        position.ImagePositionPatient = [float(value) + 0.07 for value in position.ImagePositionPatient]
    content.save_as(made)
    message = refusal(import_structures, made, str(tmp_path / "series"), tmp_path / "back")
    assert "0.12 mm off the voxels of" in message and "resample the SEG" in message


def test_a_seg_of_larger_pixels_is_refused(tmp_path, case):
    export(case[0], tmp_path / "series", tmp_path / "out", "dicom_seg")
    (made,) = (tmp_path / "out").iterdir()
    content = pydicom.dcmread(made)
    measures = content.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [2 * float(value) for value in measures.PixelSpacing]
    content.save_as(made)
    message = refusal(import_structures, made, str(tmp_path / "series"), tmp_path / "back")
    assert "its pixels are as large as [2 2] voxels" in message and "resample the SEG" in message


def test_a_series_without_a_thickness_of_its_slices(tmp_path, case):
    for file in (tmp_path / "series").iterdir():
        edit(file, SliceThickness=None)
    export(case[0], tmp_path / "series", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("anonymise", [False, "secret"])
@pytest.mark.parametrize("format", ["dicom_seg", "dicom_labelmap", "rtstruct"])
def test_single_images_that_say_they_have_one_frame(tmp_path, case, format, anonymise):
    series, out = tmp_path / "series", tmp_path / "out"
    for image in series.iterdir():
        edit(image, NumberOfFrames=1)
    export(case[0], str(series), out, format, anonymise=anonymise)
    import_structures(out, str(series), tmp_path / "back", anonymise=anonymise)
    found, expected = case[1].to_frames(*imported(tmp_path / "back")), case_frames(case)
    assert np.array_equal(np.where(expected, found, 0), expected)  # an RTSTRUCT fills the hole of the ring
    (made,) = out.iterdir()
    assert "ReferencedFrameNumber" not in {element.keyword for element in pydicom.dcmread(made).iterall()}


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, case):
    file, _, labels, affine = case
    series, out = str(tmp_path / "series"), tmp_path / "out"
    assert "expected some of dicom_seg" in refusal(export, file, series, out, ["dicom_seg", "nifti"])
    assert "expected 0 to 1" in refusal(export, file, series, out, class_names=["background", "body"])
    shifted = save_labels(tmp_path / "shifted.nii.gz", labels, affine + shift(1.0))
    assert "mm from where" in refusal(export, shifted, series, out)
    empty = save_labels(tmp_path / "empty.nii.gz", labels * 0, affine)
    assert "every voxel is background" in refusal(export, empty, series, out)
    assert "not readable" in refusal(export, tmp_path / "series" / "0001.dcm", series, out)
    assert "does not exist" in refusal(import_structures, tmp_path / "none", series, out)
    assert "found no SEG and no RTSTRUCT" in refusal(import_structures, tmp_path / "series", series, out)
    assert "found MR Image Storage" in refusal(import_structures, tmp_path / "series" / "0001.dcm", series, out)
    assert "found no DICOM file" in refusal(import_structures, file, series, out)
    assert "expected names of structures" in refusal(import_structures, file, series, out, names={"a": "heart"})
    assert not out.exists()


def shift(by: float) -> np.ndarray:
    moved = np.zeros((4, 4))
    moved[0, 3] = by
    return moved


def test_files_that_fail_are_named_and_the_others_are_written(tmp_path, capsys, case):
    file, *_ = case
    series, out = str(tmp_path / "series"), tmp_path / "out"
    export(file, series, out, ["dicom_seg", "rtstruct"])
    (out / "a_damaged.dcm").write_bytes((out / "case_seg.dcm").read_bytes()[:-900])
    message = refusal(import_structures, out, series, tmp_path / "back", CLASSES)
    assert "of the same series as" in message
    assert "a_damaged.dcm: not readable" in capsys.readouterr().err
    assert len(list((tmp_path / "back").iterdir())) == 1


def test_series_are_listed(tmp_path, capsys, case):
    make_series(tmp_path / "series" / "more", shape=(14, 18, 3), SeriesNumber=9)
    list_series(str(tmp_path / "series"))
    said = capsys.readouterr().out
    assert "PAT-01_20260301_s1_T2-axial.series\n" in said and "not read: 3 slice(s)" in said


def test_every_reason_is_listed_where_nothing_can_be_read(tmp_path, capsys):
    for number in (1, 2):
        make_series(tmp_path / "series" / str(number), shape=(14, 18, 3), SeriesNumber=number)
    assert "found nothing to read; expected an MR series" in refusal(list_series, str(tmp_path / "series"))
    assert capsys.readouterr().out.count("not read: 3 slice(s)") == 2


def test_a_missing_package_is_named(tmp_path, monkeypatch, case):
    for package in ("highdicom", "contourpy"):
        monkeypatch.setitem(sys.modules, package, None)
        message = refusal(export, case[0], str(tmp_path / "series"), tmp_path, "rtstruct")
        assert f"the package {package} is missing" in message and "pip install pydicom highdicom" in message
        monkeypatch.undo()
