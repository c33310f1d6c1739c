"""Results of inference: label maps with the input's own header, volumes in ml, and no incomplete files."""

import base64
import gzip
import json
import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import measured, rows
from ignite.engine import Engine
from matplotlib.image import imread
from PIL import Image

from scripts.core.errors import UserError
from scripts.inference import report_parts
from scripts.inference.journal import Journal
from scripts.inference.maps import CaseMaps
from scripts.inference.writer import SegmentationWriter
from scripts.report import viewer
from scripts.report.schema import Motion

NAMES = ["background", "body", "prostate"]
FOR_ALL = ("volumes.csv", "run.json", "metrics.csv", "metrics.json", "report.html", "report.md")
SHAPE = (5, 6, 7)
AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 2, -20], [0, 0, 0, 1.0]])
TILTED = nib.affines.from_matvec(
    np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([1.5, 1.25, 2]), [1, 2, 3]
)


def labels() -> np.ndarray:
    made = np.zeros(SHAPE, np.uint8)
    made[:4, :5, :6] = 1  # 120 voxels, eight of them of the other class
    made[1:3, 2:4, 3:5] = 2
    return made


def given(path, affine=AFFINE, qform=1, sform=1, units=("mm", "sec"), shape=SHAPE, **fields):
    """An image as scanners and converters write it."""
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header.set_xyzt_units(*units)
    for key, value in fields.items():
        image.header[key] = value
    nib.save(image, path)
    return nib.load(path)


def finish(folder, sources, pictures=False, made=None, ranges=None, anonymise=False, resume=False, niivue=False):
    """What the engine does: SaveImaged writes to .partial, then the handler sees the case."""
    weights = folder / "model.pt"
    network = torch.nn.Conv3d(1, 3, 1)
    if not resume:  # other weights, and nothing would count as done
        torch.save({"model": network.state_dict(), "info": {"trained_on": "phantoms", "ranges": ranges}}, weights)
    journal = Journal(str(folder / "out"), str(weights), anonymise=anonymise, resume=resume)
    journal.begin()
    images = [{"image": source} for source in sources]
    results = SegmentationWriter(
        str(folder / "out"), NAMES, journal, network, torch.device("cpu"), images, "input", pictures, niivue=niivue
    )
    partial = folder / "out" / ".partial"
    partial.mkdir(parents=True, exist_ok=True)

    def step(engine, source):
        if resume:
            engine.state.batch = {"source": [str(source)], "kept": [True]}
            return []
        engine.state.batch = [{"source": str(source), "digest": "abc"}]
        file = partial / f"{source.name.split('.')[0]}_seg.nii"
        nib.save(nib.Nifti1Image((labels() if made is None else made).astype(np.float32), np.eye(4)), file)
        return [{"pred": SimpleNamespace(meta={"filename_or_obj": str(source), "saved_to": file})}]

    engine = Engine(step)
    results.attach(engine)
    engine.run(sources)
    return folder / "out"


@pytest.mark.parametrize("qform, sform", [(1, 0), (0, 1), (1, 1), (2, 4), (0, 0)])
@pytest.mark.parametrize("affine", [AFFINE, TILTED], ids=["straight", "tilted"])
@pytest.mark.parametrize("units", [("mm", "sec"), ("unknown", "unknown")])
def test_the_header_is_the_inputs(qform, sform, affine, units, tmp_path):
    source = given(tmp_path / "case.nii.gz", affine, qform, sform, units)
    result = nib.load(finish(tmp_path, [tmp_path / "case.nii.gz"]) / "case_seg.nii.gz")
    for key in ("qform_code", "sform_code", "xyzt_units", "pixdim", "quatern_b", "srow_x", "qoffset_x", "dim"):
        assert np.array_equal(result.header[key], source.header[key]), key
    assert np.array_equal(result.affine, source.affine)
    if qform or sform:
        assert np.allclose(result.affine, affine, atol=1e-5)


def test_forms_that_differ_stay_apart(tmp_path):
    """A registration may have moved the sform only."""
    image = given(tmp_path / "case.nii")
    image.set_sform(TILTED, 2)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "case.nii")
    source = nib.load(tmp_path / "case.nii")
    result = nib.load(finish(tmp_path, [tmp_path / "case.nii"]) / "case_seg.nii.gz")
    assert not np.allclose(source.get_qform(), source.get_sform())
    assert np.array_equal(result.get_qform(), source.get_qform()) and np.array_equal(
        result.get_sform(), source.get_sform()
    )


def test_the_map_is_small_whole_numbers(tmp_path):
    """The map does not take over the scaling and the display range of the image."""
    source = given(tmp_path / "case.nii.gz", cal_max=900, scl_slope=2.5, scl_inter=-7, descrip=b"T2 SPACE")
    result = nib.load(finish(tmp_path, [tmp_path / "case.nii.gz"]) / "case_seg.nii.gz")
    assert result.get_data_dtype() == np.uint8 and result.dataobj.slope == 1 and result.dataobj.inter == 0
    assert np.array_equal(np.asarray(result.dataobj), labels())
    assert (result.header["cal_min"], result.header["cal_max"]) == (0, 2)
    assert b"research use only" in bytes(result.header["descrip"])
    assert source.header["cal_max"] == 900


def test_a_trailing_axis_stays(tmp_path):
    given(tmp_path / "case.nii.gz", shape=(*SHAPE, 1))
    out = finish(tmp_path, [tmp_path / "case.nii.gz"], pictures=True)
    result = nib.load(out / "case_seg.nii.gz")
    assert result.shape == (*SHAPE, 1) and np.array_equal(np.asarray(result.dataobj)[..., 0], labels())


@pytest.mark.parametrize("affine", [AFFINE, TILTED, -AFFINE], ids=["straight", "tilted", "mirrored"])
def test_volumes_in_millilitres(affine, tmp_path):
    """A voxel has 1.5 x 1.25 x 2 mm = 3.75 microlitres."""
    given(tmp_path / "case.nii.gz", affine)
    assert rows(finish(tmp_path, [tmp_path / "case.nii.gz"]) / "volumes.csv") == [
        {"case": "case", "body_ml": "0.42", "prostate_ml": "0.03"}
    ]


def test_a_class_that_is_not_there_has_no_volume(tmp_path):
    given(tmp_path / "case.nii.gz")
    made = np.minimum(labels(), 1)
    assert rows(finish(tmp_path, [tmp_path / "case.nii.gz"], made=made) / "volumes.csv")[0] == {
        "case": "case",
        "body_ml": "0.45",
        "prostate_ml": "0.0",
    }


def test_several_cases(tmp_path, caplog):
    sources = [tmp_path / name for name in ("b.nii.gz", "a.nii", "c.nii.gz")]
    for source in sources:
        given(source)
    with caplog.at_level(logging.INFO):
        out = finish(tmp_path, sources)
    assert {path.name for path in out.iterdir()} == {"a_seg.nii.gz", "b_seg.nii.gz", "c_seg.nii.gz", *FOR_ALL}
    assert [row["case"] for row in rows(out / "volumes.csv")] == ["a", "b", "c"]
    (line,) = [record.getMessage() for record in caplog.records if record.name == "scripts.inference.writer"]
    assert line.startswith("3 case(s) segmented") and str(out) in line


def test_pictures_if_asked_for(tmp_path):
    given(tmp_path / "case.nii.gz")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"], pictures=True)
    assert {path.name for path in out.iterdir()} == {"case_overlay.png", "case_seg.nii.gz", *FOR_ALL}
    assert min(imread(out / "case_overlay.png").shape[:2]) > 300
    finish(tmp_path, [tmp_path / "case.nii.gz"])  # another run, without them: the old one would show other labels
    assert not (out / "case_overlay.png").exists()


def test_what_a_killed_run_left_does_not_stop_the_next(tmp_path):
    given(tmp_path / "case.nii.gz")
    (tmp_path / "out" / ".partial").mkdir(parents=True)
    (tmp_path / "out" / ".partial" / "other_seg.nii").write_bytes(b"half")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"])
    assert {path.name for path in out.iterdir()} == {"case_seg.nii.gz", *FOR_ALL}


def test_a_write_that_fails_leaves_no_half_result(tmp_path, monkeypatch, caplog):
    """The next case is written all the same."""
    for name in ("a", "b"):
        given(tmp_path / f"{name}.nii.gz")

    def half(image, path):
        if str(path).endswith("a_seg.nii.gz"):
            path.write_bytes(b"half")
            raise OSError("disk full")
        save(image, path)

    save = nib.save
    monkeypatch.setattr(nib, "save", half)
    out = finish(tmp_path, [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])
    assert {path.name for path in out.iterdir()} == {"b_seg.nii.gz", *FOR_ALL}
    assert f"{tmp_path / 'a.nii.gz'}: OSError: disk full; skipped" in caplog.text
    fates = {case["image"]: case["fate"] for case in json.loads((out / "run.json").read_text())["cases"]}
    assert fates == {str(tmp_path / "a.nii.gz"): "failed", str(tmp_path / "b.nii.gz"): "done"}
    assert "disk full" in (out / "report.html").read_text()


def test_where_every_case_fails_nothing_of_an_earlier_run_seems_to_be_of_this_one(tmp_path, monkeypatch, caplog):
    """The map may have been corrected by a person, so it stays, and is named."""
    given(tmp_path / "case.nii.gz")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"])
    os.utime(out / "case_seg.nii.gz", (1, 1))
    monkeypatch.setattr(CaseMaps, "write", lambda *_: 1 / 0)
    finish(tmp_path, [tmp_path / "case.nii.gz"])
    assert f"{out}: case_seg.nii.gz of an earlier run, since 1 case(s) failed now" in caplog.text
    kept = {f"{Path(name).stem}.1{Path(name).suffix}" for name in FOR_ALL if name != "run.json"}
    assert {path.name for path in out.iterdir()} == {"case_seg.nii.gz", "run.json", *kept}


@pytest.mark.parametrize("stack", [False, True])
def test_pictures_of_an_earlier_run_are_named_too(stack, tmp_path, monkeypatch, caplog):
    name = "p_*.png" if stack else "p.png"
    for number in range(SHAPE[2] if stack else 1):
        Image.fromarray(np.full(SHAPE[1::-1], number, np.uint8)).save(tmp_path / name.replace("*", str(number)))
    made = labels() if stack else labels()[..., :1]
    out = finish(tmp_path, [tmp_path / name], made=made)
    for file in out.glob("*_seg.png"):
        os.utime(file, (1, 1))
    monkeypatch.setattr(CaseMaps, "write_labels", lambda *_: 1 / 0)
    finish(tmp_path, [tmp_path / name], made=made)
    assert f"{out}: {'p_0_seg.png, p_1_seg.png' if stack else 'p_seg.png'}" in caplog.text


def test_a_name_with_two_endings_is_one_name_everywhere(tmp_path):
    given(tmp_path / "brain.tif.nii.gz")
    out = finish(tmp_path, [tmp_path / "brain.tif.nii.gz"], pictures=True)
    assert [row["case"] for row in rows(out / "volumes.csv")] == ["brain.tif"]
    assert (out / "brain.tif_seg.nii.gz").is_file() and "brain.tif" in (out / "report.html").read_text()


def test_a_run_that_goes_on_draws_what_is_missing_or_shows_other_labels(tmp_path):
    given(tmp_path / "case.nii.gz")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"])
    drawn = out / "case_overlay.png"
    finish(tmp_path, [tmp_path / "case.nii.gz"], pictures=True, resume=True)
    before, stamp = drawn.read_bytes(), drawn.stat().st_mtime_ns
    finish(tmp_path, [tmp_path / "case.nii.gz"], pictures=True, resume=True)
    assert drawn.stat().st_mtime_ns == stamp
    nib.save(nib.Nifti1Image(np.roll(labels(), 2, 1), AFFINE), out / "case_seg.nii.gz")
    finish(tmp_path, [tmp_path / "case.nii.gz"], pictures=True, resume=True)
    assert drawn.read_bytes() != before


def test_a_run_that_goes_on_reports_on_all_cases(tmp_path):
    """The second time nothing is predicted; maps stay as they are, volumes and report have all cases."""
    given(tmp_path / "case.nii.gz")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"])
    before = {name: (out / name).read_text() for name in ("volumes.csv", "metrics.csv")}
    stamp = (out / "case_seg.nii.gz").stat().st_mtime_ns
    finish(tmp_path, [tmp_path / "case.nii.gz"], resume=True)
    assert {name: (out / name).read_text() for name in before} == before
    assert (out / "case_seg.nii.gz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda made: (made[:2], AFFINE), "found shape"),
        (lambda made: (made, AFFINE @ np.diag([2, 2, 2, 1])), "its affine puts a corner"),
        (lambda made: (np.full_like(made, 9), AFFINE), "found label 9"),
    ],
    ids=["cropped", "other voxels", "other classes"],
)
def test_a_corrected_map_that_cannot_be_used_is_named_and_kept(change, said, tmp_path, caplog):
    given(tmp_path / "case.nii.gz")
    out = finish(tmp_path, [tmp_path / "case.nii.gz"])
    nib.save(nib.Nifti1Image(*change(labels())), out / "case_seg.nii.gz")
    finish(tmp_path, [tmp_path / "case.nii.gz"], resume=True)
    assert f"case_seg.nii.gz: {said}" in caplog.text
    nib.save(nib.Nifti1Image(labels(), AFFINE), out / "case_seg.nii.gz")
    journal = Journal(str(out), str(tmp_path / "model.pt"), resume=True)
    journal.begin()
    assert journal.is_done(str(tmp_path / "case.nii.gz"), "abc")
    finish(tmp_path, [tmp_path / "case.nii.gz"], resume=True)
    (noted,) = json.loads((out / "run.json").read_text())["cases"]
    assert noted["fate"] == "done" and "reason" not in noted


RANGES = {
    "body": {"ml": [0.3, 0.5], "pieces": 1, "border": 1.0, "n": 9},
    "prostate": {"ml": [0.1, 0.2], "pieces": 1, "border": 0.0, "n": 9},
}


def test_the_report_compares_with_the_training_data(tmp_path, caplog):
    """The prostate has 0.03 ml, a third of the smallest that training saw; the body is as usual."""
    given(tmp_path / "case.nii.gz")
    with caplog.at_level(logging.INFO):
        out = finish(tmp_path, [tmp_path / "case.nii.gz"], ranges=RANGES)
    written = json.loads((out / "metrics.json").read_text())
    (case,) = written["metric_per_case"]
    assert case["warnings"] == ["prostate: 0.030 ml, 0.1 to 0.2 ml in the training data"]
    assert not written["has_truth"] and "1 with warnings" in caplog.text
    assert measured(out / "metrics.csv", "predicted_ml") == {"case": {"body": 0.42, "prostate": 0.03}}
    for name in ("report.html", "report.md"):
        text = (out / name).read_text()
        assert case["warnings"][0] in text and "Dice" not in text and "phantoms" in text


def test_codes_take_the_place_of_names(tmp_path):
    """In names of files, in their content, and in the fields of the header that may hold a patient's name."""
    private = {"db_name": b"DOE^JOHN", "aux_file": b"DOE^JOHN", "intent_name": b"DOE^JOHN", "descrip": b"DOE^JOHN"}
    source = given(tmp_path / "DOE_Week3.nii.gz", **private)
    source.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JOHN"))
    nib.save(source, tmp_path / "DOE_Week3.nii.gz")
    out = finish(tmp_path, [tmp_path / "DOE_Week3.nii.gz"], pictures=True, anonymise="word")
    names = {path.name for path in out.iterdir()}
    assert len(names) == 2 + len(FOR_ALL) and not any("DOE" in name for name in names)
    for file in out.iterdir():
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert b"DOE" not in content, file.name
    assert len({name.split("_")[0] for name in names if name.startswith("P")}) == 1


@pytest.fixture
def weekly(tmp_path, monkeypatch):
    """Two scans of a patient, and classes with bones."""
    monkeypatch.setitem(globals(), "NAMES", [*NAMES[:2], "bones"])
    for week in (0, 1):
        given(tmp_path / f"Case_004_Week{week}_LFOV.nii.gz")
    return [tmp_path / f"Case_004_Week{week}_LFOV.nii.gz" for week in (0, 1)]


def test_the_report_has_the_motion_of_the_organs_where_there_are_weeks(weekly, tmp_path, monkeypatch):
    """What is measured is the room of the weeks' own; here it is what it was asked for, and that the page shows it."""
    asked = []
    row = ("004", "Week 1", "prostate", [12.0, 1.25, -3.5, 0.75, 4.0, 0.625], "seen")
    measure = lambda scans, names, word: asked.append((scans, names, word)) or Motion([row], [])  # noqa: E731
    monkeypatch.setattr(report_parts, "report_section", measure)
    out = finish(tmp_path, weekly)
    page = (out / "report.html").read_text()
    assert "Motion of the organs relative to bone" in page and "−3.5" in page and "0.62" in page and "seen" in page
    ((scans, names, word),) = asked
    assert [(scan.patient, scan.week, scan.file.name) for scan in scans] == [
        ("004", week, f"Case_004_Week{week}_LFOV_seg.nii.gz") for week in (0, 1)
    ]
    assert names == NAMES and word is None


def test_maps_that_cannot_be_compared_are_lines_in_the_report(weekly, tmp_path):
    page = (finish(tmp_path, weekly) / "report.html").read_text()
    assert "Case_004_Week1_LFOV_seg.nii.gz: found 0 points of the surface of bones" in page


def test_a_failure_in_the_motion_does_not_cost_the_report(weekly, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(report_parts, "report_section", fail)
    out = finish(tmp_path, weekly)
    assert "out of memory" in (out / "report.html").read_text() and "could not be measured" in caplog.text
    assert measured(out / "metrics.csv", "predicted_ml").keys() == {f"Case_004_Week{week}_LFOV" for week in (0, 1)}


def test_codes_are_all_that_the_section_shows(weekly, tmp_path):
    page = (finish(tmp_path, weekly, anonymise="ours") / "report.html").read_text()
    assert "Motion of the organs" in page and "Case_004" not in page and str(tmp_path / "out") not in page


def test_one_scan_has_no_motion(weekly, tmp_path):
    assert "Motion of the organs" not in (finish(tmp_path, weekly[:1]) / "report.html").read_text()


@pytest.fixture
def niivue(tmp_path) -> str:
    """A script in the place of NiiVue's."""
    (tmp_path / "niivue.umd.js").write_text("globalThis.niivue = {};")
    return str(tmp_path / "niivue.umd.js")


@pytest.mark.parametrize("pictures", [True, False])
def test_every_case_has_a_page_that_the_report_leads_to(pictures, niivue, tmp_path):
    sources = [tmp_path / name for name in ("a & b.nii.gz", "c.nii.gz")]
    for source in sources:
        given(source)
    out = finish(tmp_path, sources, pictures, niivue=niivue)
    assert {path.name for path in out.glob("*_view.html")} == {"a & b_view.html", "c_view.html"}
    text = (out / "c_view.html").read_text(encoding="utf-8")
    assert "<title>c</title>" in text and "globalThis.niivue = {};" in text and "iVBORw0KGgo" in text
    report = (out / "report.html").read_text(encoding="utf-8")
    assert 'href="a%20%26%20b_view.html">a &amp; b</a>' in report and 'href="c_view.html">c</a>' in report
    assert "_view.html" not in (out / "report.md").read_text(encoding="utf-8")


def test_a_page_has_the_code_in_place_of_the_name(niivue, tmp_path):
    given(tmp_path / "DOE_Week3.nii.gz", db_name=b"DOE^JOHN", aux_file=b"DOE^JOHN", descrip=b"DOE^JOHN")
    out = finish(tmp_path, [tmp_path / "DOE_Week3.nii.gz"], True, anonymise="word", niivue=niivue)
    (page,) = out.glob("*_view.html")
    text = page.read_text(encoding="utf-8")
    packed = [base64.b64decode(part) for part in re.findall(r'"(H4sI[A-Za-z0-9+/=]+)"', text)]
    assert len(packed) == 2 and page.name.startswith("P") and "DOE" not in page.name
    for content in (text.encode(), *map(gzip.decompress, packed)):
        assert b"DOE" not in content


def test_a_page_that_fails_is_one_line(niivue, tmp_path, monkeypatch, caplog):
    """The case is done all the same, and no page of an earlier run stays beside its new labels."""

    def full(*_):
        raise OSError("disk full")

    given(tmp_path / "case.nii.gz")
    finish(tmp_path, [tmp_path / "case.nii.gz"], niivue=niivue)
    assert (tmp_path / "out" / "case_view.html").exists()
    monkeypatch.setattr(viewer, "page", full)
    out = finish(tmp_path, [tmp_path / "case.nii.gz"], niivue=niivue)
    assert {path.name for path in out.iterdir()} == {"case_seg.nii.gz", *FOR_ALL}
    assert "case: no page to look at it (OSError: disk full)" in caplog.messages
    assert json.loads((out / "run.json").read_text())["cases"][0]["fate"] == "done"
    assert "_view.html" not in (out / "report.html").read_text(encoding="utf-8")


def test_a_run_that_goes_on_writes_the_pages_that_are_missing_or_too_old(niivue, tmp_path):
    """A page stays if it is newer than the label map, and shows the label map as it was edited since."""
    source, page, edited = tmp_path / "case.nii.gz", tmp_path / "out" / "case_view.html", labels()[::-1]
    given(source)
    finish(tmp_path, [source])
    assert not page.exists()
    finish(tmp_path, [source], resume=True, niivue=niivue)
    before = page.read_bytes()
    stamp = page.stat().st_mtime_ns
    finish(tmp_path, [source], resume=True, niivue=niivue)
    assert page.stat().st_mtime_ns == stamp
    nib.save(nib.Nifti1Image(edited, AFFINE), tmp_path / "out" / "case_seg.nii.gz")
    finish(tmp_path, [source], resume=True, niivue=niivue)
    assert page.read_bytes() != before and page.stat().st_mtime_ns > stamp
    nib.save(nib.Nifti1Image(labels(), AFFINE), tmp_path / "out" / "case_seg.nii.gz")
    finish(tmp_path, [source], resume=True)
    assert not page.exists()


def test_slices_have_no_page(niivue, tmp_path):
    """Their files don't say where in the patient they lie."""
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "case.png")
    out = finish(tmp_path, [tmp_path / "case.png"], True, made=labels()[..., 3:4], niivue=niivue)
    assert {path.name for path in out.iterdir()} == {"case_seg.png", "case_overlay.png", *FOR_ALL}


def test_a_wrong_script_is_refused_before_any_case(tmp_path):
    given(tmp_path / "case.nii.gz")
    with pytest.raises(UserError, match="no such file, expected niivue.umd.js"):
        finish(tmp_path, [tmp_path / "case.nii.gz"], niivue=str(tmp_path / "other.js"))
    assert not list(tmp_path.glob("out/*_seg.nii.gz"))
