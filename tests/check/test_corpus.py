"""The corpus of wrong and of odd but valid files, in a complete training and a complete inference."""

import json
import logging
from pathlib import Path

import corpus
import pytest
from conftest import run

from scripts.core.errors import UserError


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list:
    """The cases that a datalist can name: files, or links to files."""
    found = corpus.write_corpus(tmp_path_factory.mktemp("corpus"))
    return [case for case in found if Path(case.image).is_file() and Path(case.label).is_file()]


def write_list(file: Path, cases: list, split: str) -> Path:
    """A list of the cases, each a patient of its own."""
    entries = [{"image": str(c.image), "label": str(c.label), "patient": str(i)} for i, c in enumerate(cases)]
    content = {"training": [], "validation": [], "test": [], split: entries}
    if split == "training":
        content["validation"] = [content["training"].pop()]
    file.write_text(json.dumps(content))
    return file


def lines_about(case, records) -> list[str]:
    return [text for text in (record.getMessage() for record in records) if f"{case.wrong}: " in text]


def test_training_refuses_every_wrong_one(cases, tmp_path, caplog):
    wrong = [case for case in cases if not case.valid]
    assert len(wrong) >= 48
    paths = {"dataset_dir": tmp_path, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    with pytest.raises(UserError) as error:
        run("train", ["train.json"], **paths, datalist=write_list(tmp_path / "list.json", wrong, "training"))
    assert len(str(error.value).splitlines()) == 1 and "more, see the log" in str(error.value)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    missing = [case.name for case in wrong if len(lines_about(case, records)) != 1]
    assert not missing
    assert not (tmp_path / "out" / "last.pt").exists()


def test_training_takes_every_valid_one(cases, tmp_path, caplog):
    valid = [case for case in cases if case.valid]
    assert len(valid) >= 12
    paths = {"dataset_dir": tmp_path, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out"}
    run("train", ["train.json"], **paths, epochs=1, datalist=write_list(tmp_path / "list.json", valid, "training"))
    assert (tmp_path / "out" / "last.pt").is_file()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_inference_names_the_wrong_images_and_segments_all_others(cases, trained, tmp_path, caplog):
    """Inference does not read labels."""
    given = {}
    for case in cases:  # one of each name: the corpus uses some images twice
        given.setdefault(Path(case.image).name, case)
    chosen = list(given.values())
    bad = [case for case in chosen if not case.valid and str(case.wrong) == str(case.image)]
    paths = {"dataset_dir": write_list(tmp_path / "list.json", chosen, "test"), "ckpt_dir": trained / "models"}
    with pytest.raises(UserError, match=f"of {len(chosen)} cases failed"):
        run("infer", ["inference.json"], **paths, output_dir=tmp_path / "out", pictures=False)
    noted = {case["image"]: case for case in json.loads((tmp_path / "out" / "run.json").read_text())["cases"]}
    assert len(noted) == len(chosen)
    for case in bad:
        assert noted[str(case.image)]["fate"] == "failed", case.name
        assert len([r for r in caplog.records if str(case.image) in r.getMessage()]) == 1, case.name
    for case in chosen:
        if case.valid:
            assert noted[str(case.image)]["fate"] == "done", (case.name, noted[str(case.image)])
            assert (tmp_path / "out" / noted[str(case.image)]["output"]).is_file()
