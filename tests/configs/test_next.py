"""The command that names the scans to label next, with the weights of a tiny training and without any."""

import csv
import functools
import logging
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import CONFIGS, TINY, Workflow, run
from helpers import refusal, rows

from scripts.next import command
from scripts.next.ranking import COLUMNS


@pytest.fixture
def scans(phantoms, tmp_path):
    """Five scans, one of which has a label."""
    folder = tmp_path / "scans"
    (folder / "labels" / "final").mkdir(parents=True)
    images = sorted(phantoms.rglob("*Week0_LFOV.nii.gz"))[:5]
    for image in images:
        shutil.copy(image, folder)
    shutil.copy(images[0], folder / "labels" / "final")
    return folder


@pytest.fixture
def named(scans, tmp_path, monkeypatch):
    """Runs the command, without its settings of the log; returns its table."""
    monkeypatch.setattr(command, "ConfigWorkflow", functools.partial(Workflow, logging_file=False))

    def call(*patches, **overrides):
        given = {key: value for key, value in TINY.items() if key not in ("cache_workers", "calibrate")}
        files = [str(CONFIGS / file) for file in ("inference.json", *patches)]
        command.main(str(scans), 2, str(tmp_path / "next"), files, **given, **overrides)
        return rows(tmp_path / "next" / "next.csv")

    return call


def test_scans_without_a_label_are_ranked(trained, scans, named, caplog):
    caplog.set_level(logging.INFO)
    table = named(ckpt_dir=str(trained / "models"))
    images = sorted(scans.glob("*.nii.gz"))
    assert list(table[0]) == list(COLUMNS) and [row["rank"] for row in table] == ["1", "2", "", ""]
    assert sorted(row["image"] for row in table) == [str(image) for image in images[1:]]
    assert all(0 <= float(row["expected_dice"]) <= 1 for row in table)
    assert "scans without a label: 4, with one: 1" in caplog.text
    assert not list((scans.parent / "next").glob("*_seg.nii.gz"))


def test_a_run_that_was_stopped_goes_on(trained, scans, named, monkeypatch):
    first = named(ckpt_dir=str(trained / "models"))
    kept = {file: file.stat().st_mtime_ns for file in (scans.parent / "next" / ".scans").iterdir()}
    assert len(kept) == 4
    assert named(ckpt_dir=str(trained / "models"), resume=True) == first
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    next(iter(kept)).write_text("{")  # damaged since then
    assert named(ckpt_dir=str(trained / "models"), resume=True) == first


def test_a_scan_that_cannot_be_read_does_not_stop_the_others(trained, scans, named):
    (scans / "broken.nii.gz").write_bytes(b"no image")
    assert "1 of 5 cases failed" in refusal(named, ckpt_dir=str(trained / "models"))
    with (scans.parent / "next" / "next.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4


def test_scans_unlike_the_training_data_are_named_last(trained_copy, phantoms, scans, named, monkeypatch):
    from scripts.doubt import likeness

    monkeypatch.setattr(likeness, "FEWEST", 3)
    given = {"dataset_dir": phantoms, "datalist": trained_copy / "datalist.json", "ckpt_dir": trained_copy / "models"}
    run("evaluate", ["train.json", "evaluate.json", "calibrate.json"], **given, output_dir=scans.parent / "scored")
    said, ckpt_dir = "its voxels are other ones", str(trained_copy / "models")
    answers = iter([said, said, "", "", "", "", "", ""])  # of the first two scans it is known before the network runs
    monkeypatch.setattr(likeness.Fingerprint, "unlike", lambda self, facts: next(answers, said))
    table = named(ckpt_dir=ckpt_dir)
    assert [(row["rank"], row["unlike"]) for row in table] == [("1", ""), ("2", ""), ("", said), ("", said)]
    monkeypatch.setattr(likeness.Fingerprint, "unlike", lambda self, facts: said)
    assert {(row["rank"], row["unlike"]) for row in named(ckpt_dir=ckpt_dir)} == {("", said)}


def test_without_weights_scans_are_chosen_by_what_they_show(named, monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    table = named(bundle_root=str(tmp_path))
    assert "no weights there yet, so the scans are chosen by what they show alone" in caplog.text
    assert [row["rank"] for row in table] == ["1", "2", "", ""] and {row["expected_dice"] for row in table} == {""}


def test_a_scan_that_shows_nothing_or_cannot_be_compared_is_named_and_left_out(named, scans, tmp_path, caplog):
    image = nib.load(min(scans.glob("*.nii.gz")))
    values = np.asarray(image.dataobj, np.float32)
    holed = values.copy()
    holed[0, 0, 0] = np.nan
    odd = {"blank": np.zeros_like(values), "holed": holed, "coloured": np.stack([values, values], -1)}
    for name, changed in odd.items():
        nib.save(nib.Nifti1Image(changed, image.affine), scans / f"{name}.nii.gz")
    assert "3 of 7 scans can't be read" in refusal(named, bundle_root=str(tmp_path))
    assert "blank.nii.gz: left out: found the same everywhere" in caplog.text
    assert "holed.nii.gz: left out: found voxels that are no numbers" in caplog.text
    assert "coloured.nii.gz: left out: found 2 channels" in caplog.text
    table = rows(tmp_path / "next" / "next.csv")
    assert len(table) == 4


def test_where_no_scan_can_be_looked_at_the_table_of_an_earlier_run_is_renamed(named, scans, trained, tmp_path):
    named(bundle_root=str(tmp_path))
    for file in scans.glob("*.nii.gz"):
        file.write_bytes(b"no image")
    for given in ({"bundle_root": str(tmp_path)}, {"ckpt_dir": str(trained / "models")}):
        (tmp_path / "next" / "next.csv").touch()
        refusal(named, **given)
        assert not (tmp_path / "next" / "next.csv").exists()
    assert (tmp_path / "next" / "next.2.csv").exists()


def test_weights_that_are_named_must_be_there(named, tmp_path):
    for given in ({"ckpt_dir": str(tmp_path)}, {"weights_file": str(tmp_path / "model.pt")}):
        assert "no weights there yet" in refusal(named, **given)
    assert "no weights there yet" in refusal(named, "ensemble.json", members=[str(tmp_path / "model.pt")])
    assert "members is []: expected files" in refusal(named, "ensemble.json")


@pytest.mark.parametrize(
    "given, words",
    [
        ({"members": ["model.pt"]}, "--members: nothing in .* uses it; .*configs/ensemble.json"),
        ({"frobnicate": 3}, "--frobnicate: no configuration of this bundle knows this id"),
        ({"doubt#lookz": 3}, "--doubt::lookz: no configuration of this bundle knows this id"),
    ],
)
def test_options_that_nothing_uses_are_refused(given, words, tmp_path):
    files = [str(CONFIGS / "inference.json")]
    assert re.match(words, refusal(command.main, str(tmp_path), 2, str(tmp_path / "next"), files, **given))
    assert not (tmp_path / "next").exists()


@pytest.mark.parametrize("patched", [True, False])
def test_the_files_to_label_have_no_codes(patched, named, tmp_path):
    (tmp_path / "codes.json").write_text('{"anonymise": "secret"}')
    given = {"bundle_root": str(tmp_path)} | ({} if patched else {"anonymise": "secret"})
    files = [str(tmp_path / "codes.json")] if patched else []
    assert "a list of files to label can't be anonymous" in refusal(named, *files, **given)
    assert patched or not (tmp_path / "next").exists()
    assert not (tmp_path / "next" / "next.csv").exists()


def test_a_missing_configuration_and_another_one_are_refused(scans, tmp_path):
    assert "no such configuration file" in refusal(command.main, str(scans), 2, str(tmp_path), "none.json")
    train = str(CONFIGS / "train.json")
    assert f"{train} is no inference" in refusal(command.main, str(scans), 2, str(tmp_path), train)
