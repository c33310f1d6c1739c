"""Bad cases among good ones are named and skipped, and do not change the results of the others."""

import gzip
import json
import logging
import shutil

import corpus
import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import run, workflow
from helpers import refusal, rows
from monai.transforms import Compose, LoadImaged

from scripts.core.errors import UserError, one_line_reason
from scripts.data.layouts import find_images
from scripts.data.names import case_name
from scripts.inference.journal import Journal
from scripts.inference.skipping import SkippingDataset

EVALUATE = ["train.json", "evaluate.json"]


def spoil(file, how):
    whole = file.read_bytes()
    image = nib.load(file)
    if how == "truncated":
        file.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        file.write_bytes(b"no image")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "several volumes":
        nib.save(nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), np.eye(4)), file)
    elif how == "singular":
        affine = image.affine.copy()
        affine[:, 1] = 0
        header = image.header.copy()
        header.set_sform(affine, 1)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, header), file)


def fates(folder) -> dict[str, str]:
    return {
        case["image"].rsplit("/", 1)[-1]: case["fate"]
        for case in json.loads((folder / "run.json").read_text())["cases"]
    }


@pytest.fixture
def mixed(phantoms, tmp_path):
    """Six good images and, in between, three bad ones."""
    images = find_images(phantoms)[:6]
    for folder in ("good", "mixed"):
        (tmp_path / folder).mkdir()
        for image in images:
            (tmp_path / folder / image.name).write_bytes(image.read_bytes())
    for number, how in ((0, "truncated"), (50, "text"), (99, "several volumes")):
        file = tmp_path / "mixed" / f"Case_{number:03d}_Week0_LFOV.nii.gz"
        file.write_bytes(images[0].read_bytes())
        spoil(file, how)
    return tmp_path


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory) -> list[corpus.CorpusEntry]:
    """Wrong and unusual inputs, which tests only read."""
    return corpus.write_corpus(tmp_path_factory.mktemp("corpus"))


def test_what_is_handed_over_is_what_monai_would_have_read(odd_files, tmp_path):
    """Values and metadata of every valid file of the corpus, although each is read only once."""
    reader = "scripts.data.readers.VolumeReader"
    load = Compose([LoadImaged("image", reader=reader, ensure_channel_first=True, image_only=True)])
    data = [{"image": str(case.image)} for case in odd_files if case.valid]
    dataset = SkippingDataset(data, load, Journal(str(tmp_path), ""), ["background", "prostate"])
    plain = LoadImaged("image", ensure_channel_first=True, image_only=True)
    for index, item in enumerate(data):
        handed, read = dataset[index]["image"], plain(item)["image"]
        assert not dataset.readers[0].ready, "it was unpacked again"
        assert handed.dtype == read.dtype and torch.equal(handed, read)
        assert str(handed.meta) == str(read.meta)


def test_twenty_cases_of_which_ten_are_bad(odd_files, phantoms, trained, tmp_path, caplog):
    """Ten maps that are identical to those of a run without the bad cases; ten lines; status 1."""
    images = find_images(phantoms)
    for folder in ("good", "mixed"):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(images):
            shutil.copy(image, tmp_path / folder / f"Case_{number:03d}_Week0.nii.gz")
    wrong = [case for case in odd_files if not case.valid and case.wrong == case.image and case.image.is_file()]
    for number, case in enumerate(wrong[:: len(wrong) // 10][:10]):
        shutil.copy(case.image, tmp_path / "mixed" / f"Case_{number:03d}_Week5{''.join(case.image.suffixes[-2:])}")
    common = {"ckpt_dir": trained / "models", "num_workers": 0, "pictures": False}
    run("infer", ["inference.json"], dataset_dir=tmp_path / "good", output_dir=tmp_path / "a", **common)
    with pytest.raises(UserError, match="10 of 20 cases failed"):
        run("infer", ["inference.json"], dataset_dir=tmp_path / "mixed", output_dir=tmp_path / "b", **common)
    maps = [sorted(folder.glob("*_seg.nii.gz")) for folder in (tmp_path / "a", tmp_path / "b")]
    assert len(maps[0]) == len(images) == 10 and [f.name for f in maps[0]] == [f.name for f in maps[1]]
    for one, other in zip(*maps):
        assert gzip.decompress(one.read_bytes()) == gzip.decompress(other.read_bytes())
    skipped = [r.getMessage() for r in caplog.records if r.getMessage().endswith("skipped")]
    assert len(skipped) == 10 and all("_Week5" in line and len(line.splitlines()) == 1 for line in skipped)


@pytest.mark.parametrize("workers", [0, 1])
def test_inference_writes_the_good_ones_as_without_the_bad(workers, mixed, trained, caplog):
    common = {"ckpt_dir": trained / "models", "num_workers": workers, "pictures": False}
    run("infer", ["inference.json"], dataset_dir=mixed / "good", output_dir=mixed / "out_good", **common)
    with pytest.raises(UserError, match="3 of 9 cases failed"):
        run("infer", ["inference.json"], dataset_dir=mixed / "mixed", output_dir=mixed / "out_mixed", **common)
    outputs = sorted((mixed / "out_good").glob("*_seg.nii.gz"))
    assert len(outputs) == 6
    assert [f.name for f in sorted((mixed / "out_mixed").glob("*_seg.nii.gz"))] == [f.name for f in outputs]
    for file in outputs:
        assert np.array_equal(nib.load(file).dataobj, nib.load(mixed / "out_mixed" / file.name).dataobj)
    assert (mixed / "out_good" / "volumes.csv").read_text() == (mixed / "out_mixed" / "volumes.csv").read_text()
    assert sorted(fates(mixed / "out_mixed").values()) == ["done"] * 6 + ["failed"] * 3
    for number in (0, 50, 99):
        (line,) = [r.getMessage() for r in caplog.records if f"Case_{number:03d}" in r.getMessage()]
        assert len(line.splitlines()) == 1 and line.endswith("skipped")
    assert not (mixed / "out_mixed" / ".partial").exists()
    log = (mixed / "out_mixed" / "inference.log").read_text()
    assert log.count("; skipped") == 3 and "Traceback" not in log  # the lines say all that is known


def test_a_second_run_does_only_what_is_missing(mixed, trained, caplog):
    paths = {"dataset_dir": mixed / "mixed", "output_dir": mixed / "out", "ckpt_dir": trained / "models"}
    with pytest.raises(UserError):
        run("infer", ["inference.json"], **paths, pictures=False)
    for wrong, said in (  # a mistake does not clear the record
        ({"dataset_dir": mixed / "nowhere"}, "does not exist"),
        ({"output_formats": ["rtstruct"]}, "refers to the DICOM series"),
        ({"uncertainty": True, "doubt_from": "members"}, "the weights are of one network"),
    ):
        with pytest.raises(UserError, match=said):
            run("infer", ["inference.json"], **paths | wrong, pictures=False)
    repaired = mixed / "mixed" / "Case_050_Week0_LFOV.nii.gz"
    repaired.write_bytes(next((mixed / "good").iterdir()).read_bytes())
    outputs = sorted((mixed / "out").glob("*_seg.nii.gz"))
    before = {file.name: file.stat().st_mtime_ns for file in outputs}
    outputs[0].unlink()
    with pytest.raises(UserError, match="2 of 9 cases failed"):
        run("infer", ["inference.json"], **paths, pictures=False, resume=True)
    after = {file.name: file.stat().st_mtime_ns for file in (mixed / "out").glob("*_seg.nii.gz")}
    assert set(after) == {*before, "Case_050_Week0_LFOV_seg.nii.gz"}
    same = {name for name, stamp in before.items() if after[name] == stamp}
    assert same == set(before) - {outputs[0].name}
    assert len(rows(mixed / "out" / "volumes.csv")) == 7


def test_the_network_fails_on_one_case(mixed, trained, monkeypatch):
    """A forward pass that runs out of memory, as for a volume that is larger than the others."""
    made = workflow("infer", ["inference.json"], dataset_dir=mixed / "good", output_dir=mixed / "out",
                    ckpt_dir=trained / "models", pictures=False)  # fmt: skip
    made.initialize()
    network, calls = made.parser.get_parsed_content("network"), []

    def forward(module, arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise MemoryError("cannot allocate 3 TiB")

    network.register_forward_pre_hook(forward)
    made.run()
    with pytest.raises(UserError, match="1 of 6"):
        made.finalize()
    (failed,) = [c for c in json.loads((mixed / "out" / "run.json").read_text())["cases"] if c["fate"] == "failed"]
    assert failed["reason"].startswith("out of memory (cannot allocate 3 TiB")
    assert "Traceback" in (mixed / "out" / "inference.log").read_text()
    assert len(list((mixed / "out").glob("*_seg.nii.gz"))) == 5


def test_evaluation_scores_the_others(phantoms, trained, tmp_path, caplog):
    """One truth is incomplete and one image is not readable; a resumed run scores only what was repaired, and the case
    whose truth was corrected."""
    listed = json.loads((trained / "datalist.json").read_text())
    content = {
        **listed,
        "test": listed["training"],
        "training": [],
        "validation": [],
        "dataset_dir": str(tmp_path / "data"),
    }
    for entry in content["test"]:
        for key in ("image", "label"):
            file = tmp_path / "data" / entry[key]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((phantoms / entry[key]).read_bytes())
    (tmp_path / "list.json").write_text(json.dumps(content))
    bad = [tmp_path / "data" / content["test"][0]["label"], tmp_path / "data" / content["test"][2]["image"]]
    spoil(bad[0], "truncated")
    spoil(bad[1], "text")
    given = {"dataset_dir": tmp_path / "data", "output_dir": tmp_path / "out", "ckpt_dir": trained / "models",
             "datalist": tmp_path / "list.json"}  # fmt: skip
    with pytest.raises(UserError, match="2 of 6 cases failed"):
        run("evaluate", EVALUATE, **given)
    assert len(json.loads((tmp_path / "out" / "metrics.json").read_text())["metric_per_case"]) == 4
    before = {row["case"]: row["value"] for row in rows(tmp_path / "out" / "metrics.csv") if row["measure"] == "Dice"}
    bad[0].write_bytes((phantoms / content["test"][0]["label"]).read_bytes())
    corrected = tmp_path / "data" / content["test"][1]["label"]
    truth = nib.load(corrected)
    nib.save(nib.Nifti1Image(np.roll(np.asarray(truth.dataobj), 5, 0), truth.affine, truth.header), corrected)
    caplog.clear()
    with pytest.raises(UserError, match="1 of 6 cases failed"), caplog.at_level(logging.INFO):
        run("evaluate", EVALUATE, **given, resume=True)
    assert len(json.loads((tmp_path / "out" / "metrics.json").read_text())["metric_per_case"]) == 5
    after = {row["case"]: row["value"] for row in rows(tmp_path / "out" / "metrics.csv") if row["measure"] == "Dice"}
    name = case_name(content["test"][1]["image"])
    assert [case for case in before if before[case] != after[case]] == [name]


def test_two_scans_of_one_code_are_refused(tmp_path):
    """The result of one would take the place of that of the other."""
    data = [{"image": str(tmp_path / f"Case_004_Week0_{field}.nii.gz")} for field in ("LFOV", "SFOV")]
    for word, refused in (("secret", True), (None, False)):
        journal = Journal(str(tmp_path), "", anonymise=word)
        if refused:
            message = refusal(SkippingDataset, data, Compose([]), journal, ["background"])
            assert "SFOV.nii.gz: has the same code as" in message and "leave out --anonymise" in message
        else:
            assert len(SkippingDataset(data, Compose([]), journal, ["background"])) == 2


def test_the_reason_is_the_bottom_of_it():
    def fail(error):
        try:
            try:
                raise error
            except type(error) as inner:
                raise RuntimeError("applying transform <object at 0x1>") from inner
        except RuntimeError as outer:
            return one_line_reason(outer)

    assert fail(ValueError("bad\n value")) == "ValueError: bad value"
    assert fail(KeyError()) == "KeyError"
    for words in ("not enough memory", "can't allocate memory"):
        assert "out of memory" in fail(RuntimeError(f"DefaultCPUAllocator: {words}: you tried to allocate 9"))
    assert one_line_reason(UserError("a.nii: found 1, expected 2")) == "a.nii: found 1, expected 2"
