"""The data check: no wrong input passes, no valid one is refused, and no file is read twice."""

import gzip
import io
import json
import logging
import os
import runpy
import subprocess
import sys
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import BUNDLE
from corpus import AFFINE, CLASSES, flip, labels, pixels, save, write_corpus
from helpers import refusal
from monai.transforms import Compose, LoadImaged, Orientationd

from scripts.check import gzip_reader, nifti, pictures
from scripts.check.cache import MEMORY_NAME
from scripts.check.dataset import REPORT, Findings, check_dataset, find_faults, stop_on_errors
from scripts.check.nifti import inspect_volume
from scripts.check.rules import find_outliers
from scripts.phantoms import generate


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def data(tmp_path) -> dict:
    """Six valid cases of three patients, as `datalist.prepare_datalist` would give them."""
    rng = np.random.default_rng(0)
    content: dict = {"training": [], "validation": [], "test": [], "patients": {}}
    for number in range(6):
        entry = {
            "image": str(tmp_path / f"data/{number}.nii.gz"),
            "label": str(tmp_path / f"data/{number}_label.nii.gz"),
        }
        (tmp_path / "data").mkdir(exist_ok=True)
        save(Path(entry["image"]), pixels(rng))
        save(Path(entry["label"]), labels(rng))
        content[["training", "validation", "test"][number // 2]].append(entry)
        content["patients"][entry["image"]] = f"P{number // 2}"
    return content


def listed(given: list) -> dict:
    """Cases of the corpus as one split, each a patient of its own."""
    return {"training": [{"image": str(case.image), "label": str(case.label)} for case in given]}


def test_the_corpus_is_large_and_has_no_case_twice(corpus):
    wrong = [case for case in corpus if not case.valid]
    assert len(wrong) >= 48 and len(corpus) - len(wrong) >= 12
    assert len({case.name for case in corpus}) == len(corpus)
    assert all(case.word for case in wrong)


@pytest.fixture(scope="module")
def checked(corpus) -> tuple[Findings, float]:
    """One check of all cases, and its seconds in this process alone: what else the machine does is not counted."""
    began = time.process_time()
    return check_dataset(listed(corpus), CLASSES, workers=1), time.process_time() - began


def test_every_wrong_case_in_one_line_and_no_valid_one(corpus, checked):
    """A fault of one case does not affect another."""
    found, seconds = checked
    assert seconds < 10
    for case in corpus:
        about = [line for line in found.errors if line.startswith(f"{case.wrong}: ")]
        assert len(about) == (not case.valid), (case.name, about)
        for line in about:
            assert case.word in line.removeprefix(str(case.wrong)) and len(line.splitlines()) == 1, line
    assert len(found.errors) == sum(not case.valid for case in corpus)


def test_warnings_on_odd_cases_only(corpus):
    odd = [case for case in corpus if case.valid]
    found = check_dataset(listed(odd), CLASSES)
    assert found.errors == []
    for case in odd:
        about = [line for line in found.warnings if line.startswith(f"{case.image}: ") and "the median is" not in line]
        assert len(about) == bool(case.word) and all(case.word in line for line in about), (case.name, about)


def test_a_single_case_as_inference_asks(corpus):
    for case in corpus:
        lines = find_faults(case.image, case.label, CLASSES)
        assert len(lines) == (not case.valid), (case.name, lines)
        if not case.name.startswith(("label", "swapped")):  # an image alone, its classes unknown
            assert find_faults(case.image) == lines, case.name


def test_what_is_accepted_is_read_alike_by_monai(corpus):
    """The shipped chain's first steps; the check's own decoding must see the same values."""
    load = Compose(
        [LoadImaged("image", ensure_channel_first=True, image_only=True), Orientationd("image", axcodes="RAS")]
    )
    for case in corpus:
        if case.valid:
            image, facts = load({"image": str(case.image)})["image"], inspect_volume(case.image)
            assert list(image.shape) == [1, *facts["ras_shape"]], case.name
            assert np.allclose([image.min(), image.max()], [facts["least"], facts["most"]]), case.name
            assert np.allclose(image.pixdim, facts["spacing"], atol=1e-4), case.name


MEASURE = """
import sys, time
from pathlib import Path
from scripts.check.dataset import find_faults

def peak():  # KiB; ru_maxrss would begin with the peak of the process that started this one
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before, began = peak(), time.process_time()  # reads and unpacks: no waiting among it
lines = [find_faults(path) for path in sys.argv[1:]]
print(len(sum(lines, [])), peak() - before, peak(), time.process_time() - began)
"""


def test_bombs_and_false_promises_take_no_memory_and_no_time(corpus):
    names = ("bomb", "large_for_its_header", "huge", "many_voxels", "many_bytes", "offset_huge", "device", "pipe")
    paths = [str(case.image) for case in corpus if case.name in names]
    assert len(paths) == len(names)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], cwd=BUNDLE, capture_output=True, text=True, timeout=600, check=True
    )
    refused, grown, peak, seconds = (float(word) for word in done.stdout.split())
    assert refused == len(names)
    assert grown < 100 * 2**10 and peak < 2**20  # 100 MiB and 1 GiB; either bomb unpacks to 3 GiB
    assert seconds < 5


def test_no_flipped_bit_that_alters_a_decoded_byte_goes_unnoticed(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "a.nii.gz"
    save(file, pixels(rng))
    whole = file.read_bytes()
    values, noticed = gzip.decompress(whole), 0
    for position in rng.choice(len(whole) * 8, 300, replace=False):
        changed = flip(whole, int(position) // 8, int(position) % 8)
        file.write_bytes(changed)
        if find_faults(file):
            noticed += 1
        else:
            assert gzip.decompress(changed) == values
    assert noticed > 280
    file.write_bytes(whole)
    assert find_faults(file) == []


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_gzip_in_pieces(piece, monkeypatch):
    """As the standard library reads it, wherever a piece ends: members in a row, an empty one, zeros in between."""
    monkeypatch.setattr(gzip_reader, "PIECE", piece)
    parts = [np.random.default_rng(piece).integers(0, 9, size, np.uint8).tobytes() for size in (3000, 0, 500)]
    packed = [gzip.compress(part, 1) for part in parts]
    content = packed[0] + packed[1] + bytes(5) + packed[2] + bytes(3)
    reader = gzip_reader.GzipReader(io.BytesIO(content))
    assert [reader.read(count) for count in (2999, 0, 11)] == [parts[0][:-1], b"", parts[0][-1:] + parts[2][:10]]
    assert reader.read(10**6) == parts[2][10:] and reader.read(1) == b""
    assert gzip.decompress(content) == b"".join(parts)
    for wrong, kind in ((content[:-12], EOFError), (content + b"x", OSError), (flip(content, -8), zlib.error)):
        with pytest.raises(kind):
            gzip_reader.GzipReader(io.BytesIO(wrong)).read(10**6)


def test_a_header_field_of_gzip_may_change(tmp_path):
    """Its time of change alters nothing; a check that refused it would refuse files that `gzip` has made."""
    file = tmp_path / "a.nii.gz"
    save(file, pixels(np.random.default_rng(0)))
    file.write_bytes(flip(file.read_bytes(), 4))
    assert find_faults(file) == []


def test_a_volume_of_many_blocks(tmp_path):
    """The end of a file that isn't read in one go counts as much as its start."""
    image = np.random.default_rng(0).integers(0, 900, (96, 96, 64)).astype(np.float32)
    assert image.size > 2 * nifti.BLOCK and image.size % nifti.BLOCK
    save(tmp_path / "a.nii.gz", image)
    facts = inspect_volume(tmp_path / "a.nii.gz")
    assert (facts["least"], facts["most"], facts["different"]) == (0, 899, 900)
    mask = (image > 500).astype(np.uint8)
    save(tmp_path / "m.nii", mask)
    assert inspect_volume(tmp_path / "m.nii")["counts"] == {"0": int((mask == 0).sum()), "1": int(mask.sum())}
    mask[-1, -1, -1] = 9
    save(tmp_path / "m.nii", mask)
    assert inspect_volume(tmp_path / "m.nii")["counts"]["9"] == 1
    image[-1, -1, -1] = np.nan
    save(tmp_path / "a.nii.gz", image)
    assert "not finite" in find_faults(tmp_path / "a.nii.gz")[0]


def test_one_digest_for_one_content(tmp_path):
    """Type, scaling, byte order and compression do not change the digest; one voxel does."""
    values = pixels(np.random.default_rng(0))
    save(tmp_path / "a.nii.gz", values)
    save(tmp_path / "b.nii", values.astype(np.float64))
    save(tmp_path / "c.nii", values - 500, scl_slope=1, scl_inter=500)
    save(tmp_path / "d.nii", values.astype(">i2"))
    assert len({inspect_volume(tmp_path / name)["digest"] for name in ("a.nii.gz", "b.nii", "c.nii", "d.nii")}) == 1
    signed = np.where(values < 500, 0.0, values)
    save(tmp_path / "f.nii", signed)
    save(tmp_path / "g.nii", np.where(signed == 0, -0.0, signed))
    assert inspect_volume(tmp_path / "f.nii")["digest"] == inspect_volume(tmp_path / "g.nii")["digest"]
    values[3, 3, 3] += 1
    save(tmp_path / "e.nii", values)
    assert inspect_volume(tmp_path / "e.nii")["digest"] != inspect_volume(tmp_path / "a.nii.gz")["digest"]


def test_odd_names_stay_on_one_line(tmp_path):
    for name in ("two\nlines.nii", "\udcff.nii", "tab\t.nii"):
        (tmp_path / name).write_bytes(b"")
        (line,) = find_faults(tmp_path / name)
        assert len(line.splitlines()) == 1 and line.isprintable() and "an empty file" in line


def test_the_odd_name_of_a_stack_stays_on_one_line(monkeypatch):
    monkeypatch.setattr(pictures.slices, "read_slices", lambda *_: (np.full((2, 2, 2), np.nan), np.eye(4)))
    assert refusal(pictures.inspect_image, "two\nlines_*.png").startswith(
        "two\\nlines_*.png: found values that are not"
    )


def test_valid_cases(data):
    found = check_dataset(data, CLASSES)
    assert (found.errors, found.warnings, found.read) == ([], [], 12)
    assert [case.patient for case in found.cases] == ["P0", "P0", "P1", "P1", "P2", "P2"]


def only(data: dict, split: str) -> dict:
    """The cases of one split."""
    return {key: data[key] for key in (split, "patients")}


def copy(data: dict, split: str, patient: str, label: bool = False) -> str:
    """Adds a case whose image, or label, has the voxels of the first one, stored otherwise."""
    first = data["training"][0]
    image, other = Path(first["image"]).with_name("copy.nii"), Path(first["image"]).with_name("copy_label.nii")
    rng = np.random.default_rng(99)
    old = {key: np.asarray(nib.load(path).dataobj) for key, path in first.items()}
    save(image, pixels(rng) if label else old["image"].astype(np.float32))
    save(other, old["label"] if label else labels(rng))
    data[split].append({"image": str(image), "label": str(other)})
    data["patients"][str(image)] = patient
    return str(other if label else image)


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("split, patient, refused", [("training", "P0", 0), ("training", "P9", 1), ("test", "P9", 1)])
def test_voxels_under_two_names(split, patient, refused, label, data):
    path = copy(data, split, patient, label)
    found = check_dataset(data, CLASSES)
    assert (len(found.errors), len(found.warnings)) == (refused, 1 - refused)
    line = (found.errors + found.warnings)[0]
    # In the order of the splits the first case comes first.
    assert line.startswith(f"{path}: the same voxels as ") and f"this one {split}, patient {patient}" in line


def test_a_case_twice_and_a_patient_on_two_sides(data):
    data["validation"].append(data["training"][0])
    (line,) = check_dataset(data, CLASSES).errors
    assert "0.nii.gz: listed under training and again under validation" in line
    data["validation"].pop()
    moved = data["validation"][0]["image"]
    data["patients"][moved] = "P0"
    (line,) = check_dataset(data, CLASSES).errors
    assert "patient P0 is in training" in line and Path(moved).name in line


def test_missing_labels(data):
    for split, refused in (("test", 0), ("training", 1)):
        data[split][0] = {"image": data[split][0]["image"]}
        found = check_dataset(only(data, split), CLASSES)
        assert (len(found.errors), len(found.warnings)) == (refused, 1 - refused)
        assert f"no label for it under {split}" in (found.errors + found.warnings)[0]


def test_classes_that_are_nowhere_or_missing_once(data):
    found = check_dataset(data, [*CLASSES, "urethra"])
    assert found.errors == []
    assert found.warnings == [f"{s}: no label has any urethra (value 6)" for s in ("training", "validation", "test")]
    rng = np.random.default_rng(7)
    for number in range(20, 40):
        entry = {
            key: str(Path(data["training"][0][key]).with_name(f"{number}_{key}.nii")) for key in ("image", "label")
        }
        save(Path(entry["image"]), pixels(rng))
        save(Path(entry["label"]), np.where((map := labels(rng)) == 4, 0, map) if number == 30 else labels(rng))
        data["training"].append(entry)
    (line,) = check_dataset(data, CLASSES).warnings
    assert "30_label.nii: no rectum (value 4) in it, 25 of 26 labels have some" in line


@pytest.mark.parametrize(
    "affine, shape, word",
    [
        (AFFINE * [[2], [1], [1], [1]], (16, 14, 12), "a spacing of 4 x 2 x 2.5 mm"),
        (AFFINE, (16, 14, 40), "an extent of 32 x 28 x 100 mm"),
        (AFFINE * [[1.1], [1], [1], [1]], (16, 14, 12), None),
        (AFFINE[[1, 0, 2, 3]], (14, 16, 12), None),  # the same body, stored along other axes
    ],
)
def test_one_unlike_the_others(affine, shape, word, data):
    rng = np.random.default_rng(5)
    entry = data["training"][0]
    save(Path(entry["image"]), rng.integers(0, 999, shape).astype(np.int16), affine)
    save(Path(entry["label"]), rng.integers(0, 6, shape).astype(np.uint8), affine)
    found = check_dataset(data, CLASSES)
    assert found.errors == []
    about = [line for line in found.warnings if "the median is" in line]
    assert any(word in line and "0.nii.gz: " in line for line in about) if word else not about


def test_a_set_that_varies_has_other_outliers():
    """A size that is unusual among equal scans is normal among scans that differ; a very different one never is."""
    spread = {str(i): {"spacing": [size, 1, 1], "ras_shape": [100, 100, 100]} for i, size in enumerate(range(10, 20))}
    assert (
        find_outliers([*spread, "far"], spread | {"far": {"spacing": [26, 1, 1], "ras_shape": [100, 100, 100]}}) == []
    )
    lines = find_outliers([*spread, "far"], spread | {"far": {"spacing": [260, 1, 1], "ras_shape": [100, 100, 100]}})
    assert [line.split(":")[0] for line in lines] == ["far", "far"]
    few = dict(list(spread.items())[:2]) | {"far": {"spacing": [260, 1, 1], "ras_shape": [100, 100, 100]}}
    assert find_outliers(few, few) == []


@pytest.fixture
def reads(monkeypatch) -> list:
    """The files that are opened for their content."""
    seen: list = []
    original = nifti.read_nifti
    monkeypatch.setattr(nifti, "read_nifti", lambda path, *rest: seen.append(path.name) or original(path, *rest))
    return seen


def test_a_second_check_reads_nothing(data, tmp_path, reads):
    first = check_dataset(data, CLASSES, tmp_path / "out")
    assert len(reads) == first.read == 12 and (tmp_path / "out" / MEMORY_NAME).is_file()
    reads.clear()
    second = check_dataset(data, CLASSES, tmp_path / "out")
    assert reads == [] and second == Findings(first.errors, first.warnings, first.files, first.cases, 0)
    assert check_dataset(data, CLASSES, tmp_path / "out", fresh=True).read == len(reads) == 12


def test_other_classes_need_no_second_reading(data, tmp_path, reads):
    check_dataset(data, CLASSES, tmp_path)
    reads.clear()
    found = check_dataset(data, CLASSES[:3], tmp_path)
    assert reads == [] and len(found.errors) == 6 and all("found label 5; expected 0 to 2" in e for e in found.errors)


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_changed_file_is_read_again(keep_time, data, tmp_path, reads):
    check_dataset(data, CLASSES, tmp_path)
    reads.clear()
    file = Path(data["validation"][0]["image"])
    before = file.stat()
    time.sleep(0.02)  # at least a tick of the file system's clock; longer does no harm
    content = file.read_bytes()
    file.write_bytes(flip(content, len(content) // 2))
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, before.st_size)
    (line,) = check_dataset(data, CLASSES, tmp_path).errors
    assert file.name in line and "incomplete" in line and reads == [file.name]
    file.write_bytes(content)
    assert check_dataset(data, CLASSES, tmp_path).errors == []


def test_an_error_is_looked_at_again_each_time(data, tmp_path, reads):
    """The cause may have been the disk."""
    Path(data["test"][0]["image"]).write_bytes(b"broken")
    for _ in range(2):
        reads.clear()
        assert len(check_dataset(data, CLASSES, tmp_path).errors) == 1
        assert "4.nii.gz" in reads
    assert reads == ["4.nii.gz"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rules": -1, "files": {}}', '{"rules": 1, "files": 3}'])
def test_a_memory_that_cannot_be_used(content, data, tmp_path):
    (tmp_path / MEMORY_NAME).write_text(content)
    assert check_dataset(data, CLASSES, tmp_path).read == 12
    assert check_dataset(data, CLASSES, tmp_path).read == 0


def test_one_split_does_not_forget_the_others(data, tmp_path):
    check_dataset(data, CLASSES, tmp_path)
    Path(data["test"][0]["image"]).touch()
    assert check_dataset(only(data, "test"), CLASSES, tmp_path).read == 1
    assert check_dataset(data, CLASSES, tmp_path).read == 0


def test_threads_change_nothing(corpus, checked):
    one, four = checked[0], check_dataset(listed(corpus), CLASSES, workers=4)
    assert one == four and one.errors and one.warnings


def test_a_run_stops_on_errors_and_logs_them_all(data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    stop_on_errors(only(data, "training"), [*CLASSES, "urethra"], tmp_path)
    assert "warning: training: no label has any urethra" in caplog.text
    assert "4 files in" in caplog.text and "0 errors, 1 warnings" in caplog.text
    broken = [data["training"][1]["image"], data["test"][0]["label"], data["test"][1]["label"]]
    for file in broken:
        Path(file).write_bytes(b"")
    caplog.clear()
    message = refusal(stop_on_errors, data, CLASSES, tmp_path)
    assert message.startswith(f"{broken[0]}: found an empty file") and "and 2 more" in message
    assert all(f"error: {file}: found an empty file" in caplog.text for file in broken)
    assert "more" not in refusal(stop_on_errors, only(data, "training"), CLASSES, tmp_path)
    stop_on_errors(only(data, "validation"), CLASSES, tmp_path)


@pytest.mark.parametrize("errors", [0, 2])
def test_the_other_processes_wait_for_the_check_and_end_with_it(errors, data, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.check.dataset.is_main_process", lambda: False)
    monkeypatch.setattr("scripts.check.dataset.sum_of_all", lambda own: own + errors)
    if errors:
        with pytest.raises(SystemExit, match="1"):
            stop_on_errors(data, CLASSES, tmp_path)
    else:
        stop_on_errors(data, CLASSES, tmp_path)
    assert not (tmp_path / REPORT).exists()


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process; returns its exit status, or the line that it ends with, and what it printed."""

    def call(*arguments: str) -> tuple:
        monkeypatch.setattr(sys, "argv", ["__main__.py", *arguments])
        status = None
        try:
            runpy.run_module("scripts.check", run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


@pytest.mark.programs
def test_the_command(command, tmp_path):
    """As a process of its own, then once more in this one."""
    source, output = tmp_path / "data", tmp_path / "out"
    pairs = generate.generate(source, patients=3, scans=2, size=(32, 32, 16))
    arguments = ["--dataset_dir", str(source), "--output_dir", str(output)]
    words = [sys.executable, "-m", "scripts.check", *arguments]
    done = subprocess.run(words, cwd=BUNDLE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "files        12 (12 read, 0 unchanged)" in done.stdout and "patients     3" in done.stdout
    assert "shape        32 x 32 x 16" in done.stdout and "0 errors, 0 warnings" in done.stdout
    rows = {
        line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith(tuple(generate.CLASSES))
    }
    truth = [np.asarray(nib.load(label).dataobj) for _, label in pairs]
    for value, name in enumerate(generate.CLASSES):
        counts = [int((volume == value).sum()) for volume in truth]
        voxel_ml = np.prod(nib.load(pairs[0][1]).header.get_zooms()) / 1000
        present = [count * voxel_ml for count in counts if count]
        assert int(rows[name][1]) == len(present)
        assert float(rows[name][2].rstrip("%")) == pytest.approx(
            100 * sum(counts) / sum(v.size for v in truth), abs=0.006
        )
        assert [float(cell) for cell in rows[name][3:]] == pytest.approx(
            [min(present), float(np.median(present)), max(present)], abs=0.06
        )
    kept = json.loads((output / REPORT).read_text())
    assert kept["errors"] == [] and len(kept["files"]) == 12 and kept["class_names"] == list(generate.CLASSES)

    pairs[0][0].write_bytes(pairs[0][0].read_bytes()[:-9])
    pairs[1][1].write_bytes(b"")
    status, said, errors = command(*arguments)
    assert status == 1 and "(2 read, 10 unchanged)" in said and errors.strip() == ""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and pairs[0][0].name in lines[0] and pairs[1][1].name in lines[1]
    assert len(json.loads((output / REPORT).read_text())["errors"]) == 2


def test_the_command_on_a_datalist(command, data, tmp_path):
    copy(data, "test", "P2")
    entries = {
        split: [{**e, "patient": data["patients"][e["image"]]} for e in data[split]]
        for split in ("training", "validation", "test")
    }
    file = tmp_path / "list.json"
    file.write_text(json.dumps({**entries, "class_names": CLASSES[:3]}))
    arguments = ["--dataset_dir", str(tmp_path), "--datalist", str(file), "--output_dir", str(tmp_path / "out")]
    status, said, _ = command(*arguments, "--class_names", str(CLASSES))
    assert status == 1 and said.count("error: ") == 1
    assert "copy.nii: the same voxels as" in said
    assert "found label 5; expected 0 to 2" in command(*arguments)[1]  # the list's own classes
    status, *_ = command(*arguments, "--class_names", "prostate")
    assert "class_names is ['prostate']: expected a list of 2 or more" in status


@pytest.mark.parametrize(
    "shape, advice", [((64, 64, 1), "see docs/how-to/slices.md"), ((8, 8, 3000), "crop or resample")]
)
def test_what_to_do_with_too_few_voxels_along_an_axis_or_too_many(shape, advice, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    said = refusal(inspect_volume, tmp_path / "a.nii.gz")
    assert "expected 8 to 2048 voxels along each axis; " in said and advice in said
