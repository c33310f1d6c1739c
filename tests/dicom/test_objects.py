"""What a SEG and an RTSTRUCT say of the patient, the model, the classes and themselves."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom", reason="the extra dicom is not installed")

from helpers import refusal
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from segment_samples import ABOUT, CLASSES, make_case, make_enhanced, seg_agrees
from series_samples import SPACING

from scripts.core.palette import colour
from scripts.core.paths import METADATA
from scripts.data.anonymise import patient_code
from scripts.dicom.about import about_bundle
from scripts.dicom.contours import fill, outlines
from scripts.dicom.segmentation import write_segmentation
from scripts.dicom.structures import write_structures
from scripts.series.reader import read_stack

PERSON = {
    "PatientName": "Müller^Jürgen",
    "PatientID": "MRN-0815",
    "PatientBirthDate": "19500417",
    "PatientSex": "M",
    "PatientAge": "075Y",
    "AccessionNumber": "ACC4711",
    "ReferringPhysicianName": "Huber^Anna",
    "StudyID": "STUDY77",
    "StudyDate": "20260301",
    "StudyTime": "101112",
    "SeriesDate": "20260301",
    "StudyDescription": "Becken MRT",
    "InstitutionName": "Klinikum",
    "StationName": "MR77",
    "SpecificCharacterSet": "ISO_IR 100",
}


def objects(folder, frames, stack, about=ABOUT):
    """A SEG and an RTSTRUCT of the same labels, and their bytes."""
    write_segmentation(frames, stack, CLASSES, folder / "seg.dcm", about)
    write_structures(frames, stack, CLASSES, folder / "rt.dcm", about)
    files = [folder / "seg.dcm", folder / "rt.dcm"]
    return [pydicom.dcmread(file) for file in files], [file.read_bytes() for file in files]


def test_patient_study_and_place_are_those_of_the_series(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series", **PERSON)
    (header, *_), (made, _) = stack.headers, objects(tmp_path, frames, stack)
    for one in made:
        assert str(one.PatientName) == PERSON["PatientName"]
        for word in ("PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "AccessionNumber", "StudyDate"):
            assert one[word].value == PERSON[word], word
        assert one.StudyInstanceUID == header.StudyInstanceUID
        assert one.FrameOfReferenceUID == header.FrameOfReferenceUID
        assert one.SeriesInstanceUID != header.SeriesInstanceUID
        assert "research use only" in one.SeriesDescription
    seg, rt = made
    assert seg.ContentLabel == rt.StructureSetLabel == "RESEARCH ONLY"
    assert seg.ContentDate == rt.StructureSetDate == PERSON["StudyDate"]


def test_every_image_is_referred_to(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    seg, rt = objects(tmp_path, frames, stack)[0]
    images = {str(header.SOPInstanceUID) for header in stack.headers}
    (series,) = seg.ReferencedSeriesSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence} == images
    (frame,) = rt.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence} == images
    for item in rt.ROIContourSequence:  # a contour names the slice that it lies on
        for contour in item.ContourSequence:
            (image,) = contour.ContourImageSequence
            (header,) = (h for h in stack.headers if h.SOPInstanceUID == image.ReferencedSOPInstanceUID)
            offset = np.array(contour.ContourData[:3], float) - np.array(header.ImagePositionPatient, float)
            directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            assert abs(offset @ np.cross(*directions)) < 0.001


def test_a_contour_on_a_multi_frame_file_names_its_frame(tmp_path):
    frames, stack, *_ = make_enhanced(tmp_path)
    write_structures(frames, stack, CLASSES, tmp_path / "rt.dcm", ABOUT)
    (header,) = stack.headers
    for item in pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence:
        for contour in item.ContourSequence:
            group = header.PerFrameFunctionalGroupsSequence[contour.ContourImageSequence[0].ReferencedFrameNumber - 1]
            offset = np.array(contour.ContourData[:3], float) - np.array(
                group.PlanePositionSequence[0].ImagePositionPatient, float
            )
            assert abs(offset @ (stack.affine[:3, 2] / np.linalg.norm(stack.affine[:3, 2]))) < 0.001


@pytest.mark.parametrize("labelmap", [False, True])
@pytest.mark.parametrize("echoes", [1, 2])
def test_a_segment_on_a_multi_frame_file_names_its_frame(tmp_path, echoes, labelmap):
    frames, stack, labels, affine = make_enhanced(tmp_path, echoes=echoes)
    write_segmentation(frames, stack, CLASSES, tmp_path / "seg.dcm", ABOUT, labelmap)
    assert seg_agrees(tmp_path / "seg.dcm", labels, affine)
    groups, wanted = stack.headers[0].PerFrameFunctionalGroupsSequence, {number for _, number in stack.frames}
    assert len(groups) == echoes * len(wanted)
    for group in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence:
        number = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        named = groups[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert number in wanted
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, named, atol=1e-4)


def test_classes_have_codes_colours_and_kinds(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    seg, rt = objects(tmp_path, frames, stack)[0]
    version = json.loads(METADATA.read_text())["version"]
    codes = {"body": "38266002", "bones": "272673000", "bladder": "89837001", "prostate": "41216001"}  # no rectum here
    assert {s.SegmentLabel: s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in seg.SegmentSequence} == codes
    for segment in seg.SegmentSequence:
        assert segment.SegmentAlgorithmType == "AUTOMATIC" and "RecommendedDisplayCIELabValue" in segment
        (made,) = segment.SegmentationAlgorithmIdentificationSequence
        assert made.AlgorithmName == json.loads(METADATA.read_text())["name"] and made.AlgorithmVersion == version
    assert [item.ROIName for item in rt.StructureSetROISequence] == list(codes)
    kinds = [item.RTROIInterpretedType for item in rt.RTROIObservationsSequence]
    assert kinds == ["EXTERNAL", "ORGAN", "ORGAN", "ORGAN"]
    shown = ["#" + "".join(f"{part:02X}" for part in item.ROIDisplayColor) for item in rt.ROIContourSequence]
    assert shown == [colour(CLASSES.index(name)) for name in codes]


def test_the_same_input_gives_the_same_bytes_and_another_one_other_uids(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    made, content = objects(tmp_path, frames, stack)
    assert objects(tmp_path, frames, stack)[1] == content
    changed = frames.copy()
    changed[0, 0, 5] = 3
    for others in (
        objects(tmp_path, changed, stack)[0],
        objects(tmp_path, frames, stack, replace(ABOUT, weights="0" * 64))[0],
        objects(tmp_path, frames, stack, replace(ABOUT, made_by="MANUAL"))[0],
    ):
        for one, other in zip(made, others):
            assert one.SOPInstanceUID != other.SOPInstanceUID and one.SeriesInstanceUID != other.SeriesInstanceUID
    uids = {uid for one in made for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)}
    assert len(uids) == 4 and all(uid.is_valid and len(uid) <= 64 for uid in uids)


def test_uids_begin_with_the_root_of_the_user(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    about = about_bundle(uid_root="1.2.826.0.1.3680043.8.498.1.")
    for one in objects(tmp_path, frames, stack, about)[0]:
        for uid in (one.SOPInstanceUID, one.SeriesInstanceUID):
            assert uid.startswith("1.2.826.0.1.3680043.8.498.1.") and uid.is_valid and len(uid) <= 64
    for root in ("1.02.3", "3.1", "abc", "1." * 30 + "1"):
        assert "expected numbers with dots" in refusal(about_bundle, uid_root=root)


@pytest.mark.parametrize("kind", ["single", "enhanced"])
def test_nothing_tells_who_it_was_where_names_are_codes(tmp_path, kind):
    if kind == "single":
        frames, stack, *_ = make_case(tmp_path / "series", **PERSON)
    else:
        frames, stack, *_ = make_enhanced(tmp_path)
        for word, value in PERSON.items():
            setattr(stack.headers[0], word, value)
    stack.headers[0].add_new(0x00091001, "LO", "Müller private")
    made, content = objects(tmp_path, frames, stack, replace(ABOUT, word="secret"))
    uids = {
        str(header[word].value)
        for header in stack.headers
        for word in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    }
    secrets = ["Müller", "Jürgen", "MRN-0815", "19500417", "075Y", "ACC4711", "Huber", "STUDY77", "20260301", "101112"]
    for one, text in zip(made, content):
        for word in {*secrets, "Becken", "Klinikum", "MR77", *uids}:
            assert word.encode() not in text and word.encode("latin-1") not in text, word
        assert one.PatientID == str(one.PatientName).rstrip("^") == patient_code("MRN-0815", "secret")
        assert one.PatientIdentityRemoved == "YES" and one.PatientSex == "M"
    seg, rt = made
    assert seg.StudyInstanceUID == rt.StudyInstanceUID and seg.FrameOfReferenceUID == rt.FrameOfReferenceUID


def test_labels_that_a_person_drew_say_so(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    seg, rt = objects(tmp_path, frames, stack, about_bundle(made_by="MANUAL", model="reader 1"))[0]
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"MANUAL"}
    assert {item.ROIGenerationAlgorithm for item in rt.StructureSetROISequence} == {"MANUAL"}
    assert "expected one of AUTOMATIC" in refusal(about_bundle, made_by="BY_HAND")


def test_text_keeps_to_its_length(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series", "oblique")
    names = [*CLASSES[:2], "a \\ is in the name, which is much longer than the sixty-four characters of a label"]
    write_structures(np.where(frames > 1, 2, frames), stack, names, tmp_path / "rt.dcm", ABOUT)
    rt = pydicom.dcmread(tmp_path / "rt.dcm")
    assert len(rt.StructureSetROISequence[1].ROIName) == 64
    assert rt.RTROIObservationsSequence[1].ROIObservationLabel == "a / is in the na"
    for item in rt.ROIContourSequence:
        for contour in item.ContourSequence:
            raw = contour.get_item("ContourData").value
            assert max(map(len, raw.split(b"\\"))) <= 16
    write_segmentation(np.where(frames > 1, 2, frames), stack, names, tmp_path / "seg.dcm", ABOUT)
    assert len(pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[1].SegmentLabel) == 64


def test_without_a_voxel_there_is_no_file(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    for write, name in ((write_segmentation, "seg.dcm"), (write_structures, "rt.dcm")):
        assert write(np.zeros_like(frames), stack, CLASSES, tmp_path / name, ABOUT) == []
        assert not (tmp_path / name).exists()


def test_a_series_without_uids_is_refused(tmp_path):
    frames, stack, *_ = make_case(tmp_path / "series")
    stack.headers[3].StudyInstanceUID = ""
    message = refusal(write_structures, frames, stack, CLASSES, tmp_path / "rt.dcm", ABOUT)
    assert "no StudyInstanceUID, expected it in every file" in message


def test_a_series_without_a_frame_of_reference_gets_one(tmp_path):
    make_case(tmp_path / "series")
    for file in (tmp_path / "series").iterdir():
        item = pydicom.dcmread(file)
        del item.FrameOfReferenceUID
        item.save_as(file)
    stack = read_stack(tmp_path / "series")
    columns, rows, slices = stack.shape
    frames = np.ones((slices, rows, columns), np.uint8)
    seg, rt = objects(tmp_path, frames, stack)[0]
    assert seg.FrameOfReferenceUID == rt.FrameOfReferenceUID and seg.FrameOfReferenceUID.is_valid


@pytest.mark.parametrize("step", [33, -3.75, 0, "N/A", None])
@pytest.mark.parametrize("frames_in_one_file", [False, True])
def test_slices_are_as_far_apart_as_they_lie_whatever_the_header_says(tmp_path, step, frames_in_one_file):
    frames, stack, labels, affine = (make_enhanced if frames_in_one_file else make_case)(tmp_path)
    for header in stack.headers:
        spoilt = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0] if frames_in_one_file else header
        for word, tag in (("SpacingBetweenSlices", 0x00180088), ("SliceThickness", 0x00180050)):
            text = str(step).encode()
            spoilt.pop(word, None)
            if step is not None:
                spoilt[tag] = RawDataElement(Tag(tag), "DS", len(text), text, 0, False, True)
    write_segmentation(frames, stack, CLASSES, tmp_path / "seg.dcm", ABOUT)
    assert seg_agrees(tmp_path / "seg.dcm", labels, affine)
    measures = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == SPACING[2]
    assert measures.get("SliceThickness") == (33 if step == 33 else None)


@pytest.mark.parametrize(
    "word, given, written", [("PatientSex", "U", ""), ("PatientName", "PC01\\Huber", "PC01/Huber")]
)
def test_what_dicom_does_not_allow_is_written_as_it_allows(tmp_path, word, given, written):
    frames, stack, *_ = make_case(tmp_path / "series", **{word: given})
    for one in objects(tmp_path, frames, stack)[0]:
        assert str(one[word].value) == written
    coded = replace(ABOUT, word="secret")
    for one in objects(tmp_path, frames, stack, coded)[0]:
        assert given not in str(one[word].value)


@pytest.mark.parametrize("seed", range(20))
def test_outlines_have_the_area_and_the_pixels_of_any_mask(seed):
    chance = np.random.default_rng(seed)
    mask = chance.random(chance.integers(1, 24, 2)) < chance.random()
    drawn, area = np.zeros(mask.shape, bool), 0.0
    for outline in outlines(mask):
        assert (outline % 1 == 0.5).all()  # along edges, never through a pixel
        drawn ^= fill(outline, mask.shape)
        x, y = outline.T
        area += abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    assert np.array_equal(drawn, mask) and area == mask.sum()


@pytest.mark.parametrize(
    "entry, says",
    [
        ({"code": ["1", "SCT"]}, "expected three texts"),
        ({"code": ["12345678901234567", "SCT", "Heart"]}, "expected three texts"),
        ({"code": ["80891009", "SCT", "Heart"], "category": "tissue"}, "expected three texts"),
        ({"code": ["80891009", "SCT", "Heart"], "roi_type": "TARGET"}, "has the roi_type 'TARGET', expected one of"),
        ("80891009", "expected three texts"),
    ],
)
def test_codes_that_do_not_fit_are_refused(tmp_path, entry, says):
    (tmp_path / "codes.json").write_text(json.dumps({"heart": entry}))
    assert says in refusal(about_bundle, segments=tmp_path / "codes.json")


def test_codes_of_ones_own(tmp_path):
    (tmp_path / "codes.json").write_text(
        json.dumps({"bones": {"code": ["XX", "99LOCAL", "Pelvis"], "roi_type": "AVOIDANCE"}})
    )
    frames, stack, *_ = make_case(tmp_path / "series")
    seg, rt = objects(tmp_path, frames, stack, about_bundle(segments=tmp_path / "codes.json"))[0]
    found = {s.SegmentLabel: s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for s in seg.SegmentSequence}
    assert found["bones"] == "Pelvis" and found["bladder"] == "Anatomical Structure"
    kinds = {o.ROIObservationLabel: o.RTROIInterpretedType for o in rt.RTROIObservationsSequence}
    assert kinds == {"body": "", "bones": "AVOIDANCE", "bladder": "", "prostate": ""}
