"""Whatever is given as DICOM is read, or refused in one line: no hang, no memory, no file outside the output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BUNDLE, ROOT

pytest.importorskip("pydicom", reason="the extra dicom is not installed")

LONGEST_S = 300  # of all together, on any machine; they take about ten seconds
MOST_MIB = 2048


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    """What became of each entry of the corpus, in a process of its own."""
    folder = tmp_path_factory.mktemp("corpus")
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "series_corpus.py"), str(folder / "input")]
    (folder / "input").mkdir()
    done = subprocess.run(
        program,
        cwd=folder,
        env={"PYTHONPATH": f"{BUNDLE}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in folder.iterdir()] == ["input"]
    assert not list(folder.rglob("outside*"))
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_two_hundred_and_more_end_in_one_line_or_are_read(results):
    *entries, _ = results
    assert len(entries) > 400
    for entry in entries:
        assert "NOT CAUGHT" not in entry["outcome"] and "\n" not in entry["outcome"], entry
    read = {entry["name"] for entry in entries if entry["outcome"].startswith("read [[14, 18, 10]]")}
    assert {"private headers", "many headers", "archive with paths that lead out"} <= read
    assert 20 < len(read) < 60


def test_memory_stays_small(results):
    assert results[-1]["imports_mib"] < results[-1]["peak_mib"] < MOST_MIB


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Rows '60000'", "60000 x 14 pixels, expected at most"),
        ("NumberOfFrames '999999999'", "several frames, which are read of enhanced MR only"),
        ("sequences in sequences", "maximum recursion depth"),
        ("file that is sparse", "1,099,511,627,776 bytes, expected 536,870,912 at most"),
        ("cut at 1200", "its pixels are not readable (The number of bytes of pixel data is less"),
        ("broken pixels 1.2.840.10008.1.2.4.90 1", "its header 18 x 14"),
        ("archive that is cut off", "not readable as a zip archive"),
        ("SOPInstanceUID '1.2.3'", "have the same SOPInstanceUID"),
    ],
)
def test_the_line_says_what_is_wrong(results, name, words):
    (found,) = [entry["outcome"] for entry in results[:-1] if entry["name"] == name]
    assert words in found


def test_a_name_made_from_headers_leads_nowhere(tmp_path):
    from scripts.series.sorting import name_of

    facts = dict.fromkeys(
        ("PatientID", "StudyDate", "SeriesDate", "SeriesNumber", "SeriesDescription", "ProtocolName"), "../../x\0\n/y"
    )
    name = name_of({**facts, "StudyInstanceUID": "1"})
    assert (tmp_path / name).parent == tmp_path and name == "x-y_undated_s0_x-y" and Path(name).name == name
