"""Files of any name and order are sorted into series by their headers; what is no stack is refused with the reason."""

import os
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from series_samples import SHAPE, SPACING, as_enhanced, edit, make_series, same_place, slices_of

from scripts.core.errors import UserError
from scripts.series import index
from scripts.series.files import DicomFile
from scripts.series.reader import read_series, read_stack

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")


@pytest.fixture
def series(tmp_path):
    """A folder with one axial series, and its volume."""
    volume, affine = make_series(tmp_path / "scan")
    return tmp_path / "scan", volume, affine


def reason(source: Path, wanted: str | int | None = None) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(UserError) as caught:
        chosen, _ = index.choose(source, wanted)
        read_series(index.path_of(source, chosen[0]))
    text = str(caught.value)
    assert "\n" not in text and str(source) in text
    return text


def test_the_name_is_made_from_the_headers(series):
    (found,), lines = index.choose(series[0])
    assert found.name == "PAT-01_20260301_s1_T2-axial" and lines == []
    assert len(found.frames) == SHAPE[2] and len(found.files) == SHAPE[2]


@pytest.mark.parametrize("seed", range(3))
def test_neither_names_nor_numbers_nor_folders_matter(series, tmp_path, seed):
    folder, volume, affine = series
    files, dice = slices_of(folder), random.Random(seed)
    dice.shuffle(files)
    for number, file in enumerate(files):
        target = (
            tmp_path
            / "moved"
            / dice.choice(["a", "b/c", "."])
            / dice.choice(["IM{}", "{}.IMA", "x{}.jpg"]).format(number)
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        edit(file, target, InstanceNumber=dice.randrange(100))
    assert same_place(volume, affine, *read_series(tmp_path / "moved"))


def test_several_patients_studies_and_series_are_told_apart(tmp_path):
    keys = [("A", "20260101", 1), ("A", "20260101", 2), ("A", "20260108", 1), ("B", "20260101", 1)]
    made = []
    for seed, (patient, date, number) in enumerate(keys):
        facts = {"PatientID": patient, "StudyDate": date, "number": number, "SeriesDescription": "T2"}
        made.append(make_series(tmp_path / "new", seed=seed, **facts))
        for file in slices_of(tmp_path / "new"):
            file.rename(tmp_path / f"{file.stem}-{seed}")
    chosen, _ = index.choose(tmp_path)
    assert [one.name for one in chosen] == [f"{patient}_{date}_s{number}_T2" for patient, date, number in keys]
    for one, (volume, affine) in zip(chosen, made, strict=True):
        assert same_place(volume, affine, *read_series(index.path_of(tmp_path, one)))


def test_series_are_picked_by_uid_number_or_a_word(tmp_path):
    make_series(tmp_path / "a", number=3, SeriesDescription="T2 tse")
    make_series(tmp_path / "b", number=4, SeriesDescription="dwi_b800 (ADC)", seed=1)
    make_series(tmp_path / "c", number=5, SeriesDescription="planning", Modality="CT", seed=2)
    uid = str(pydicom.dcmread(slices_of(tmp_path / "b")[0]).SeriesInstanceUID)
    for wanted, number in (
        (3, 3),
        ("4", 4),
        (uid, 4),
        ("TSE", 3),
        ("t2-tse", 3),
        ("dwi_b800 (a", 4),
        ("dwi-b800-adc", 4),
        ("planning", 5),
    ):
        chosen, _ = index.choose(tmp_path, wanted)
        assert [series.facts["SeriesNumber"] for series in chosen] == [str(number)], wanted
    assert "no series has the UID or number 'flair'" in reason(tmp_path, "flair")
    chosen, lines = index.choose(tmp_path)
    assert len(chosen) == 2 and len(lines) == 1 and lines[0].endswith("not read: modality CT, expected MR")


def test_equal_names_get_digits_of_the_uid(tmp_path):
    make_series(tmp_path / "a", SeriesInstanceUID="1.2.3.4")
    make_series(tmp_path / "b", SeriesInstanceUID="1.2.3.5", seed=1)
    first, second = index.choose(tmp_path)[0]
    assert first.name[:-6] == second.name[:-6] == "PAT-01_20260301_s1_T2-axial-" and first.name != second.name


def test_names_of_two_stacks_of_one_series_do_not_depend_on_the_folder(tmp_path):
    for number in (1, 2):
        make_series(tmp_path / "a" / str(number), SeriesInstanceUID="1.2.3.4", seed=number)
    for file in slices_of(tmp_path / "a" / "2"):
        edit(file, SOPInstanceUID=f"1.2.{int(file.stem)}", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    names = [series.name for series in index.index_of(tmp_path / "a").series]
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert len(set(names)) == len(names) == 2 and [s.name for s in index.index_of(tmp_path / "b").series] == names


def test_an_archive_and_a_dicomdir_hold_the_same_series(series, tmp_path):
    folder, volume, affine = series
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "nothing")
        for number, file in enumerate(reversed(slices_of(folder))):
            archive.write(file, f"DICOM/{number % 3}/{number}")
    (found,), _ = index.choose(tmp_path / "export.zip")
    assert same_place(volume, affine, *read_series(index.path_of(tmp_path / "export.zip", found)))
    assert index.is_source(tmp_path / "export.zip") and not index.is_source(tmp_path / "export.zip" / "no.series")

    from pydicom.fileset import FileSet

    files = FileSet()
    for file in slices_of(folder):
        files.add(file)
    files.write(tmp_path / "disc")
    (tmp_path / "disc" / "not listed.txt").write_text("nothing")
    for source in (tmp_path / "disc", tmp_path / "disc" / "DICOMDIR"):
        (found,), _ = index.choose(source)
        assert same_place(volume, affine, *read_series(index.path_of(source, found)))


def test_a_dicomdir_does_not_lead_out_of_its_folder(series, tmp_path):
    from pydicom.fileset import FileSet

    folder, *_ = series
    files = FileSet()
    for file in slices_of(folder):
        files.add(file)
    files.write(tmp_path / "disc")
    shutil.copy(slices_of(folder)[0], tmp_path / "secret")
    listing = pydicom.dcmread(tmp_path / "disc" / "DICOMDIR")
    for record, path in zip(
        [r for r in listing.DirectoryRecordSequence if "ReferencedFileID" in r],
        [["..", "secret"], [str(tmp_path / "secret")], ["nowhere"]],
    ):
        record.ReferencedFileID = path
    listing.save_as(tmp_path / "disc" / "DICOMDIR")
    found = index.index_of(tmp_path / "disc" / "DICOMDIR")
    assert [len(series.frames) for series in found.series] == [SHAPE[2] - 3]
    words = [("not in its folder" in line, "no such DICOM file" in line) for line in found.lines]
    assert words == [(True, False), (True, False), (False, True)]


def test_a_missing_slice_is_named(series):
    slices_of(series[0])[4].unlink()
    text = reason(series[0])
    assert "1 slice(s) missing between" in text and f"{2 * SPACING[2]:.2f} mm in place of {SPACING[2]:.2f}" in text


def move(file: Path, by: tuple) -> None:
    position = np.array(pydicom.dcmread(file).ImagePositionPatient, float) + by
    edit(file, ImagePositionPatient=[f"{number:.6g}" for number in position])


def test_unequal_steps_are_refused(series):
    move(slices_of(series[0])[4], (0, 0, 0.8))
    assert "the steps between slices differ, from 2.950 to 4.550 mm" in reason(series[0])


def test_a_tilted_gantry_is_refused(series):
    for number, file in enumerate(slices_of(series[0])):
        move(file, (0, 0.3 * number, 0))
    assert "shifted sideways by up to 2.70 mm, as with a tilted gantry" in reason(series[0])


def test_a_copy_is_left_out_and_another_image_of_its_uid_is_refused(series):
    folder, volume, affine = series
    shutil.copy(slices_of(folder)[2], folder / "copy")
    (found,), lines = index.choose(folder)
    assert "left out 1 file(s) that are copies" in lines[0]
    assert same_place(volume, affine, *read_series(folder))
    edit(folder / "copy", WindowWidth=9)
    assert "differ, but have the same SOPInstanceUID" in reason(folder)


def test_two_images_of_one_place_are_refused_if_no_header_tells_them_apart(series):
    edit(slices_of(series[0])[3], series[0] / "again.dcm", SOPInstanceUID="1.2.3", WindowWidth=9)
    assert "found two slices at the same place" in reason(series[0])


def test_two_echoes_are_two_volumes(series, tmp_path):
    folder, volume, affine = series
    for number, file in enumerate(slices_of(folder)):
        found = pydicom.dcmread(file)
        found.PixelData = (found.pixel_array + 1).astype("<u2").tobytes()
        found.SOPInstanceUID, found.EchoTime, found.InstanceNumber = f"1.2.3.{number}", 80, 100 - number
        found.save_as(folder / f"echo{number}")
    chosen, lines = index.choose(folder)
    assert [one.name[-6:] for one in chosen] == ["-echo1", "-echo2"] and "one of 2 stacks" in lines[0]
    volumes = [read_series(index.path_of(folder, one)) for one in chosen]
    assert same_place(volume, affine, *volumes[0]) and same_place(volume + 1, affine, *volumes[1])


def test_a_slice_of_another_direction_costs_itself(series):
    folder, volume, affine = series
    edit(slices_of(folder)[0], folder / "stray", SOPInstanceUID="1.2.3", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    chosen, lines = index.choose(folder)
    assert len(chosen) == 1 and any("1 slice(s), expected 8 or more: a localiser?" in line for line in lines)
    assert same_place(volume, affine, *read_series(index.path_of(folder, chosen[0])))


def test_two_frames_of_reference_are_refused(series):
    edit(slices_of(series[0])[1], FrameOfReferenceUID="1.2.3")
    assert "several frames of reference" in reason(series[0])


def test_noise_in_the_directions_is_borne(series):
    folder, volume, affine = series
    for number, file in enumerate(slices_of(folder)):
        edit(file, ImageOrientationPatient=[1 - 1e-7 * (number % 2), 1e-7 * number, 0, 0, 1, 0])
    assert same_place(volume, affine, *read_series(folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Modality": "CT"}, "modality CT, expected MR"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour image (RGB)"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1, expected MONOCHROME2"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient, so nobody knows where it is"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing is [0.0, 1.0], expected sizes from"),
        ({"Rows": 0}, "0 x 14 pixels"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "expected two directions of length 1 at a right angle"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "Rows": None}, "Presentation State Storage: no image"),
    ],
)
def test_what_is_no_mr_series_is_refused(series, changes, words):
    for file in slices_of(series[0]):
        edit(file, **changes)
    assert words in reason(series[0])


def test_few_slices_are_taken_for_a_localiser_unless_they_are_asked_for(tmp_path):
    volume, affine = make_series(tmp_path, shape=(14, 18, 3))
    assert "3 slice(s), expected 8 or more: a localiser?" in reason(tmp_path)
    assert same_place(volume, affine, *read_series(index.path_of(tmp_path, index.choose(tmp_path, 1)[0][0])))


@pytest.mark.parametrize("order", [None, [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]])
def test_an_enhanced_file_is_read_by_the_places_of_its_frames(series, tmp_path, order):
    folder, volume, affine = series
    file = as_enhanced(folder, tmp_path / "enhanced" / "one", order)
    assert same_place(volume, affine, *read_series(file.parent))
    stack = read_stack(file.parent)
    assert len(stack.headers) == 1 and [number for _, number in stack.frames] == [
        (order or list(range(10))).index(place) + 1 for place in range(10)
    ]


def test_a_copy_of_an_enhanced_file_is_one_file_and_is_read_once(series, tmp_path, monkeypatch):
    file = as_enhanced(series[0], tmp_path / "enhanced" / "one")
    shutil.copy(file, file.with_name("two"))
    read, whole = [], DicomFile.read
    monkeypatch.setattr(DicomFile, "read", lambda self: (read.append(self), whole(self))[1])
    (found,), lines = index.choose(file.parent)
    assert len(read) == 2 and "left out 1 file(s) that are copies" in lines[0] and len(found.frames) == 10


def test_an_enhanced_file_without_a_place_for_each_frame_is_refused(series, tmp_path):
    file = as_enhanced(series[0], tmp_path / "enhanced" / "one")
    edit(file, NumberOfFrames=12)
    assert "found the places of 10 frames, expected those of 12" in reason(file.parent)


def test_files_of_no_dicom_are_counted(series):
    (series[0] / "notes.txt").write_text("nothing")
    (series[0] / "cut.dcm").write_bytes(slices_of(series[0])[0].read_bytes()[128:])
    _, lines = index.choose(series[0])
    assert lines == [f"{series[0].absolute()}: 2 file(s) in it are not DICOM (no marker DICM) and are not read"]


def test_a_change_on_the_disk_is_seen(series):
    folder, *_ = series
    path = index.path_of(folder, index.choose(folder)[0][0])
    assert index.named_series(path) is index.named_series(path)
    slices_of(folder)[4].unlink()
    with pytest.raises(UserError, match="missing between"):
        read_series(path)
    for file in slices_of(folder):
        file.unlink()
    assert index.named_series(path) is None


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="does not exist, expected a folder, a zip archive or a DICOMDIR"):
        index.choose(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no such series"):
        read_series(tmp_path / "nothing.series")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="found no DICOM file"):
        index.choose(tmp_path)


def test_without_pydicom_one_line_names_the_extra(series, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    index.read_index.cache_clear()
    with pytest.raises(UserError, match="expected those of the extra dicom; pip install pydicom highdicom"):
        index.choose(series[0])


@pytest.mark.parametrize("plane", ["axial", "oblique"])
def test_a_file_that_another_program_made_of_single_slices_is_read(tmp_path, plane):
    """highdicom's writer of enhanced MR, which shares nothing with the samples here."""
    legacy = pytest.importorskip("highdicom.legacy", reason="the extra dicom is not installed")
    volume, affine = make_series(tmp_path / "scan", plane, ManufacturerModelName="x", SoftwareVersions="1")
    slices = [pydicom.dcmread(file) for file in slices_of(tmp_path / "scan")]
    made = legacy.LegacyConvertedEnhancedMRImage(slices, "1.2.3.1", 2, "1.2.3.2", 1)
    (tmp_path / "enhanced").mkdir()
    made.save_as(tmp_path / "enhanced" / "one")
    assert same_place(volume, affine, *read_series(tmp_path / "enhanced"))
