"""run.json: what counts as done, the lines about failures, and the exit status."""

import json
import logging
import pickle
from itertools import pairwise

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
    journal.open()
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


def test_processes_that_read_images_get_it_as_it_is(tmp_path, weights):
    """Where processes are not forked, what they need is pickled."""
    journal = begun(tmp_path, weights)
    journal.record_done("b.nii", "123", "b_seg.nii.gz", 1.0)
    (tmp_path / "out" / "b_seg.nii.gz").touch()
    there = pickle.loads(pickle.dumps(begun(tmp_path, weights, resume=True)))
    assert there.is_done("b.nii", "123") and not there.is_done("b.nii", "124")


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
        second.record_kept("a.nii")
        assert second.earlier_result("a.nii") == tmp_path / "out" / "a_seg.nii.gz"
        assert content(tmp_path)["cases"][0]["digest"] == "123"


def test_a_failure_does_not_cost_the_result_that_a_person_may_have_corrected(tmp_path, weights):
    """As of an image on a disk that is away for one run; what nobody edits is made anew."""
    first = begun(tmp_path, weights)
    for name, sealed in (("map", False), ("measures", True)):
        (tmp_path / "out" / name).touch()
        first.record_done(f"{name}.nii", "123", name, 1.0, sealed)
    for _ in range(2):
        again = begun(tmp_path, weights, resume=True)
        for name in ("map.nii", "measures.nii"):
            again.record_failure(name, "not there")
        again.finish()
    last = begun(tmp_path, weights, resume=True)
    assert last.is_done("map.nii", "123") and not last.is_done("map.nii", "124")
    assert not last.is_done("measures.nii", "123")
    last.record_kept("map.nii")
    assert content(tmp_path)["cases"][0]["fate"] == "done"


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
    journal.record_failure(
        "/data/Mustermann Max/Otto 2/scan.nii.gz",
        "/data/Mustermann Max/Otto 2/scan.nii.gz: found 4, expected 5 as MUSTERMANN_MAX_1.tif has",
    )
    journal.record_failure(
        "/images/p1.nii.gz", "/truth/Mary Jane Doe/p1_seg.nii.gz: found the value 9, expected 0 to 3"
    )
    text = (tmp_path / "out" / "run.json").read_text() + caplog.text
    assert "found the value 9" in text and "Jane" not in text
    assert "Case_0" not in text and "home" not in text and "-W0" in text and "found 3" in text
    assert "found 4" in text and not any(name in text.lower() for name in ("mustermann", "max", "otto"))


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


def test_a_killed_process_leaves_its_lines(tmp_path, weights):
    """Those of two processes, of which one was killed while it wrote: a resumed run, of any number, has all others."""
    (tmp_path / "out").mkdir()
    for name in "abcd":
        (tmp_path / "out" / f"{name}_seg.nii.gz").touch()
    begun(tmp_path, weights).record_done("a.nii", "1", "a_seg.nii.gz", 1.0)
    lines = [json.dumps({"image": f"{name}.nii", "fate": "done", "digest": "1", "output": f"{name}_seg.nii.gz"})
             for name in "bcd"]  # fmt: skip
    (tmp_path / "out" / ".run" / "1.jsonl").write_text(f"{lines[0]}\n{lines[1]}\n{lines[2][:40]}")
    second = begun(tmp_path, weights, resume=True)
    assert [second.is_done(f"{name}.nii", "1") for name in "abcd"] == [True, True, True, False]
    assert [case["image"] for case in content(tmp_path)["cases"]] == ["a.nii", "b.nii", "c.nii"]
    again = begun(tmp_path, weights, resume=True)  # killed before its first case: nothing is forgotten
    assert again.is_done("c.nii", "1")
    assert not begun(tmp_path, weights).is_done("a.nii", "1") and content(tmp_path)["cases"] == []


def test_lines_of_other_weights_do_not_count(tmp_path, weights):
    begun(tmp_path, weights).record_done("a.nii", "1", "a_seg.nii.gz", 1.0)
    weights.write_bytes(b"others")
    begun(tmp_path, weights, resume=True)
    assert content(tmp_path)["cases"] == [] and (tmp_path / "out" / ".run" / "0.jsonl").read_text() == ""


def test_lines_of_other_weights_do_not_come_back(tmp_path, weights, monkeypatch):
    """A run with new weights that is killed as soon as its list is begun."""
    begun(tmp_path, weights).record_done("a.nii", "1", "a_seg.nii.gz", 1.0)
    weights.write_bytes(b"others")
    write = Journal.write

    def killed(*args):
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        begun(tmp_path, weights)
    monkeypatch.undo()
    begun(tmp_path, weights, resume=True)
    assert content(tmp_path)["cases"] == []


def test_the_work_for_a_case_does_not_grow_with_their_number(tmp_path, weights, monkeypatch):
    """What is written for four times as many cases is about four times as much, and not sixteen times."""
    written = []
    monkeypatch.setattr(
        "scripts.inference.journal.write_json", lambda content, _: written.append(len(content["cases"]))
    )
    journal = Journal(str(tmp_path), str(weights))
    monkeypatch.setattr("os.fsync", lambda _: None)
    totals = []
    for count in (500, 2000):
        written.clear()
        journal.made_with, journal.number, journal.count = {}, 0, 1
        journal.open()
        for number in range(count):
            journal.record_done(f"{number}.nii", "1", f"{number}_seg.nii.gz", 1.0)
        journal.finish()
        assert written[-1] == count and written[:50] == list(range(1, 51))
        assert max(b / a for a, b in pairwise(written[100:])) <= 1.11
        totals.append(sum(written) / count)
    assert totals[1] < totals[0] < 30


def test_the_main_process_has_the_cases_of_all(tmp_path, weights, monkeypatch):
    """Two processes, one after the other here; the second one is not the main one and writes its lines only."""
    journals = []
    for number in (1, 0):
        monkeypatch.setattr("scripts.inference.journal.number_and_count", lambda number=number: (number, 2))
        monkeypatch.setattr("scripts.inference.journal.is_main_process", lambda number=number: number == 0)
        journals.append(Journal(str(tmp_path / "out"), str(weights)))
    other, main = journals
    steps = ((main, 0), (other, 1))
    for step in ("begin", "open"):
        for journal, number in reversed(steps) if step == "open" else steps:
            monkeypatch.setattr("scripts.inference.journal.number_and_count", lambda number=number: (number, 2))
            monkeypatch.setattr("scripts.inference.journal.is_main_process", lambda number=number: number == 0)
            getattr(journal, step)()
    other.record_failure("b.nii", "bad")
    main.record_done("a.nii", "1", "a_seg.nii.gz", 1.0, record={"case": "a"})
    assert [case["image"] for case in content(tmp_path)["cases"]] == ["a.nii", "b.nii"]
    other.record_done("c.nii", "1", "c_seg.nii.gz", 1.0, record={"case": "c"})
    assert (other.finish(), main.finish()) == (False, True)
    assert [case["image"] for case in content(tmp_path)["cases"]] == ["a.nii", "b.nii", "c.nii"]
    assert main.records() == [{"case": "a"}, {"case": "c"}] and not (tmp_path / "out" / ".run").exists()
    other.failed = 1  # which the processes tell each other
    with pytest.raises(SystemExit, match="1"):
        other.exit_with_status()
    assert "1 of 3 cases failed (b.nii)" in refusal(main.exit_with_status)


def test_machines_that_do_not_share_the_folder_are_refused(tmp_path, weights, monkeypatch):
    monkeypatch.setattr("scripts.inference.journal.number_and_count", lambda: (0, 2))
    journal = Journal(str(tmp_path / "out"), str(weights))
    journal.begin()
    assert "no file of process 1" in (message := refusal(journal.open)) and "--output_dir" in message
