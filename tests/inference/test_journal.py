"""run.json: what counts as done, the lines about failures, and the exit status."""

import json
import logging

import pytest
import torch
from conftest import run, workflow
from helpers import refusal

from scripts.core.describe import settings_text
from scripts.inference.journal import Journal


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    return tmp_path / "model.pt"


def begun(folder, weights, **options) -> Journal:
    journal = Journal(str(folder / "out"), str(weights), **options)
    journal.begin()
    return journal


def content(folder) -> dict:
    return json.loads((folder / "out" / "run.json").read_text())


def test_every_case_is_on_disk_at_once(tmp_path, weights, caplog):
    journal = begun(tmp_path, weights)
    journal.record_done("b.nii", "123", "b_seg.nii.gz", 1.23456)
    assert content(tmp_path)["cases"] == [
        {"image": "b.nii", "fate": "done", "digest": "123", "output": "b_seg.nii.gz", "seconds": 1.235}
    ]
    journal.record_failure("a.nii", "not an image")
    assert [case["image"] for case in content(tmp_path)["cases"]] == ["a.nii", "b.nii"]
    assert content(tmp_path)["cases"][0] == {"image": "a.nii", "fate": "failed", "reason": "not an image"}
    assert "a.nii: not an image; skipped" in caplog.text
    assert journal.failures() == ["a.nii: not an image"]


def test_leaving_with_failures(tmp_path, weights):
    journal = begun(tmp_path, weights)
    journal.record_done("good.nii", "1", "good_seg.nii.gz", 1.0)
    journal.exit_with_status()
    for n in range(5):
        journal.record_failure(f"folder/bad{n}.nii", "bad")
    message = refusal(journal.exit_with_status)
    assert "5 of 6 cases failed (bad0.nii, bad1.nii, bad2.nii, ...)" in message and "--resume True" in message


@pytest.mark.parametrize(
    "change, done",
    [
        (None, True),
        ("input", False),
        ("weights", False),
        ("settings", False),
        ("result gone", False),
        ("failed", False),
        ("not asked", False),
    ],
)
def test_what_counts_as_done(change, done, tmp_path, weights, caplog):
    caplog.set_level(logging.INFO)
    first = begun(tmp_path, weights, settings=[{"size": 3}])
    (tmp_path / "out" / "a_seg.nii.gz").parent.mkdir(exist_ok=True)
    (tmp_path / "out" / "a_seg.nii.gz").touch()
    first.record_done("a.nii", "123", "a_seg.nii.gz", 1.0)
    if change == "failed":
        first.record_failure("a.nii", "why")
    if change == "weights":
        weights.write_bytes(b"others")
    if change == "result gone":
        (tmp_path / "out" / "a_seg.nii.gz").unlink()
    settings = [{"size": 4 if change == "settings" else 3}]
    second = begun(tmp_path, weights, settings=settings, resume=change != "not asked")
    assert second.is_done("a.nii", "124" if change == "input" else "123") == done
    assert ("other weights or settings" in caplog.text) == (change in ("weights", "settings"))
    if done:
        assert second.reuse("a.nii") == "a_seg.nii.gz" and content(tmp_path)["cases"][0]["digest"] == "123"


def test_nothing_to_go_on_from(tmp_path, weights, caplog):
    caplog.set_level(logging.INFO)
    assert not begun(tmp_path, weights, resume=True).is_done("a.nii", "1")
    assert "nothing to resume" in caplog.text


def test_codes_and_no_paths(tmp_path, weights, caplog):
    journal = begun(tmp_path, weights, anonymise="word")
    journal.record_done("home/Case_004_Week0_LFOV.nii.gz", "1", "P1_seg.nii.gz", 1.0)
    journal.record_failure(
        "home/Case_005_Week1_LFOV.nii.gz", "home/Case_005_Week1_LFOV.nii.gz: found 3, unlike Case_005.nii.gz"
    )
    text = (tmp_path / "out" / "run.json").read_text() + caplog.text
    assert "Case_0" not in text and "home" not in text and "-W0" in text and "found 3" in text


class Thing:
    def __init__(self, size, other=None):
        self.size, self.other = size, other


def test_settings_as_text():
    assert settings_text([Thing(3, {"a": (1, 2)})]) == settings_text([Thing(3, {"a": (1, 2)})])
    texts = {
        settings_text(thing)
        for thing in (Thing(3), Thing(4), Thing(3, Thing(1)), Thing(3, Thing(2)), [3], {"a": 3}, torch.float32, None,
                      torch.nn.Conv3d(1, 2, 3), torch.nn.Conv3d(1, 2, 1))
    }  # fmt: skip
    assert len(texts) == 10 and not any("0x" in text for text in texts)
    circle = Thing(1)
    circle.other = circle
    assert len(settings_text(circle)) < 500


def test_settings_of_the_shipped_configuration(phantoms, tmp_path):
    """Two equal objects give the same text; every knob that changes a result changes it."""
    run("train", ["train.json"], dataset_dir=phantoms, output_dir=tmp_path, ckpt_dir=tmp_path, epochs=1)

    def made(**overrides):
        paths = {"dataset_dir": phantoms, "output_dir": tmp_path / "p", "ckpt_dir": tmp_path}
        started = workflow("infer", ["inference.json"], **paths, **overrides)
        started.initialize()
        journal = started.parser.get_parsed_content("journal")
        journal.begin()
        return journal.made_with["settings"]

    first = made()
    assert made() == first
    changed = [made(keep_largest=True), made(spatial_size=[48, 48, 32]), made(sliding_window=True), made(features=8)]
    changed.append(made(sliding_window=True, window_overlap=0.25))
    assert len({first, *changed}) == 6
