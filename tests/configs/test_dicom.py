"""DICOM through the shipped configurations: inference of series, training on them, files for a planning system."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import run
from series_samples import edit, same_place, slices_of

from scripts.core.errors import UserError
from scripts.data.layouts import find_images, find_pairs
from scripts.data.names import scan_date, scan_key
from scripts.series.reader import read_series, read_stack
from scripts.series.writer import write_series

pytest.importorskip("pydicom", reason="the extra dicom is not installed")
FACTS = {"PatientBirthDate": "19400102", "StudyTime": "120000", "StudyID": "1", "SeriesDescription": "T2 tse"}


def as_series(image: Path, folder: Path, patient: str, date: str) -> None:
    volume = nib.load(image)
    name = f"Phantom^{patient}"
    write_series(
        np.asarray(volume.dataobj), volume.affine, folder, PatientID=patient, PatientName=name, StudyDate=date, **FACTS
    )


@pytest.fixture(scope="module")
def export(phantoms, tmp_path_factory) -> Path:
    """Two weeks of a patient as series, as a scanner exports them: one folder, names without a meaning."""
    folder = tmp_path_factory.mktemp("export")
    for week, image in enumerate(find_images(phantoms)[:2]):
        new = tmp_path_factory.mktemp("new")
        as_series(image, new, "PH004", f"2026030{week + 1}")
        for file in slices_of(new):
            file.rename(folder / f"{week}{file.stem}")
    return folder


@pytest.fixture(scope="module")
def segmented(export, trained, tmp_path_factory) -> Path:
    """Inference of both, with every format."""
    out = tmp_path_factory.mktemp("out")
    formats = ["nifti", "image", "dicom_seg", "dicom_labelmap", "rtstruct"]
    run("infer", ["inference.json"], dataset_dir=export, output_dir=out, ckpt_dir=trained / "models",
        output_formats=formats)  # fmt: skip
    return out


def cases(out: Path) -> list[str]:
    return [case["image"].rsplit("/", 1)[-1] for case in json.loads((out / "run.json").read_text())["cases"]]


def test_a_series_gets_the_labels_that_the_same_volume_gets_as_nifti(phantoms, export, segmented, trained, tmp_path):
    for image in find_images(phantoms)[:2]:
        (tmp_path / "in" / image.name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / image.name).write_bytes(image.read_bytes())
    paths = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    run("infer", ["inference.json"], **paths)
    assert cases(segmented) == ["PH004_20260301_s1_T2-tse.series", "PH004_20260302_s1_T2-tse.series"]
    series, files = (sorted(folder.glob("*_seg.nii.gz")) for folder in (segmented, tmp_path / "out"))
    for one, other in zip(series, files, strict=True):
        one, other = nib.load(one), nib.load(other)
        found, expected = np.asarray(one.dataobj), np.asarray(other.dataobj)
        assert len(np.unique(found)) > 1 and same_place(found, one.affine, expected, other.affine)
        assert not same_place(found[::-1], one.affine, expected, other.affine)
        assert one.header["sform_code"] == 1 and one.header.get_xyzt_units()[0] == "mm"


def test_all_formats_are_written_and_belong_to_the_series(export, segmented):
    import pydicom

    start = segmented / "PH004_20260301_s1_T2-tse"
    series = export / "PH004_20260301_s1_T2-tse.series"
    image = nib.load(f"{start}_image.nii.gz")
    assert same_place(np.asarray(image.dataobj), image.affine, *read_series(series))
    sources = {str(header.SOPInstanceUID) for header in read_stack(series).headers}
    for ending in ("_seg.dcm", "_labelmap.dcm", "_rtstruct.dcm"):
        found = pydicom.dcmread(f"{start}{ending}")
        assert (found.PatientID, str(found.PatientName)) == ("PH004", "Phantom^PH004")
        assert found.StudyInstanceUID == read_stack(series).headers[0].StudyInstanceUID
        assert "research use only" in found.SeriesDescription.lower()
        text = found.to_json()
        assert all(uid in text for uid in sources)


def test_the_report_groups_the_weeks_of_a_patient(segmented):
    metrics = json.loads((segmented / "metrics.json").read_text())
    assert {case["patient"] for case in metrics["metric_per_case"]} == {"PH004"}
    assert scan_key(segmented / "PH004_20260302_s1_T2-tse_seg.nii.gz") == ("PH004", None)
    assert scan_date("PH004_20260302_s1_T2-tse_seg.nii.gz") == "20260302"
    assert scan_date("A_undated_s1") is None and scan_date("Case_004_Week0.nii.gz") is None


def test_a_second_run_adds_only_what_is_missing(export, segmented, trained):
    files = sorted(segmented.glob("*_rtstruct.dcm"))
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in [*files, *segmented.glob("*_seg.nii.gz")]}
    files[0].unlink()
    run("infer", ["inference.json"], dataset_dir=export, output_dir=segmented, ckpt_dir=trained / "models", resume=True,
        output_formats=["nifti", "rtstruct"])  # fmt: skip
    for file, (stamp, content) in before.items():
        assert file.read_bytes() == content  # the same input gives the same bytes
        assert (file.stat().st_mtime_ns == stamp) is (file != files[0])


def test_nothing_names_the_patient_where_names_are_codes(export, trained, tmp_path):
    run("infer", ["inference.json"], dataset_dir=export, output_dir=tmp_path, ckpt_dir=trained / "models",
        anonymise="secret", output_formats=["nifti", "image", "dicom_seg", "rtstruct"], series=str(1))  # fmt: skip
    files = [file for file in tmp_path.iterdir() if file.suffix in (".dcm", ".json", ".html", ".csv", ".md")]
    assert len([file for file in files if file.suffix == ".dcm"]) == 4
    for file in tmp_path.iterdir():
        assert "PH004" not in file.name and "2026030" not in file.name
    for file in files:
        content = file.read_bytes()
        assert not [word for word in (b"PH004", b"Phantom^", b"19400102", b"20260301") if word in content], file.name


def test_from_nifti_these_formats_are_refused_before_anything_is_done(phantoms, trained, tmp_path):
    with pytest.raises(UserError, match="output_formats has rtstruct, which refers to the DICOM series of the image"):
        run("infer", ["inference.json"], dataset_dir=phantoms, output_dir=tmp_path, ckpt_dir=trained / "models",
            output_formats=["nifti", "rtstruct"])  # fmt: skip
    assert not list(tmp_path.glob("*_seg.nii.gz"))


def test_one_series_that_is_no_stack_does_not_stop_the_others(export, trained, tmp_path):
    for file in export.iterdir():
        (tmp_path / "in" / file.name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "in" / "10004"
    broken.write_bytes(broken.read_bytes()[:-300])
    paths = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    with pytest.raises(UserError, match="1 of 2 cases failed"):
        run("infer", ["inference.json"], **paths)
    (failed,) = [c for c in json.loads((tmp_path / "out" / "run.json").read_text())["cases"] if c["fate"] == "failed"]
    assert failed["reason"].startswith(f"{broken}: its pixels are not readable")


@pytest.fixture(scope="module")
def training_set(phantoms, tmp_path_factory) -> Path:
    """The phantoms in the layout of Decathlon: images as series, by the name of their folder; labels as NIfTI."""
    folder = tmp_path_factory.mktemp("decathlon")
    (folder / "labelsTr").mkdir()
    for number, entry in enumerate(find_pairs(phantoms)):
        name = f"scan{number}"
        series, patient = folder / "imagesTr" / name, f"PH{entry['patient']}"
        as_series(phantoms / entry["image"], series, patient, f"202603{number + 1:02}")
        (folder / "labelsTr" / f"{name}.nii.gz").write_bytes((phantoms / entry["label"]).read_bytes())
    return folder


def test_pairs_of_series_and_labels(training_set, phantoms):
    pairs = find_pairs(training_set)
    assert len(pairs) == 10 and len({entry["patient"] for entry in pairs}) == 5
    for entry in pairs:
        label = nib.load(training_set / entry["label"])
        volume, affine = read_series(training_set / entry["image"])
        assert not np.allclose(label.affine, affine)  # the axes lie otherwise, the places are the same
    stray = training_set / "labelsTr" / "scan99.nii.gz"
    stray.write_bytes(b"")
    with pytest.raises(UserError, match="scan99"):
        find_pairs(training_set)
    stray.unlink()


def test_training_and_evaluation_on_series_are_those_on_nifti(training_set, phantoms, tmp_path):
    made = {}
    for name, data in (("series", training_set), ("nifti", phantoms)):
        given = {"dataset_dir": data, "output_dir": tmp_path / name, "ckpt_dir": tmp_path / name / "models", "seed": 1}
        run("train", ["train.json"], epochs=1, **given)
        run("evaluate", ["train.json", "evaluate.json"], **given)
        made[name] = json.loads((tmp_path / name / "metrics.json").read_text())["foreground"]["mean"]
    assert made["series"] == pytest.approx(made["nifti"], abs=1e-3) and made["series"] > 0


def test_a_recipe_for_slices_refuses_a_series(export, trained, tmp_path):
    with pytest.raises(UserError, match="2 of 2 cases failed"):
        run("infer", ["inference.json"], dataset_dir=export, output_dir=tmp_path, ckpt_dir=trained / "models",
            reader="scripts.data.slices.SliceReader")  # fmt: skip
    reasons = {case["reason"] for case in json.loads((tmp_path / "run.json").read_text())["cases"]}
    assert all("found a DICOM series, expected slices" in reason for reason in reasons)


def test_a_date_that_is_none_does_not_lose_the_case(export, trained, tmp_path):
    for file in export.iterdir():
        if file.name.startswith("0"):
            (tmp_path / "in").mkdir(exist_ok=True)
            edit(file, tmp_path / "in" / file.name, StudyDate="20260231")
    paths = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    run("infer", ["inference.json"], **paths, output_formats=["nifti", "dicom_seg", "rtstruct"])
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 2


def test_headers_lead_nowhere_outside_the_output_folder(export, trained, tmp_path):
    """A patient number and a description that look like paths, and one series that is refused beside it."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for file in export.iterdir():
        if file.name.startswith("0"):
            edit(file, tmp_path / "in" / "deep" / file.name, PatientID="../../outside", SeriesDescription="/etc/x")
        elif not file.name.endswith("4"):
            edit(file, tmp_path / "in" / file.name, SeriesDescription="with gaps")
    paths = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models"}
    run("infer", ["inference.json"], **paths, output_formats=["nifti", "image", "dicom_seg", "rtstruct"])
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    names = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("outside")}
    start = "outside_20260301_s1_etc-x"
    assert {f"{start}{end}" for end in ("_seg.nii.gz", "_image.nii.gz", "_seg.dcm", "_rtstruct.dcm")} <= names
    log = (tmp_path / "out" / "inference.log").read_text()
    assert "with-gaps.series: not read" in log and "the steps between slices differ" in log
