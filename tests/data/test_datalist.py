"""Splits by patient, lists written by hand, and what a run or an inference reads."""

import json
from collections import Counter
from pathlib import Path

import pytest
from helpers import refusal, stubs

from scripts.data.command import main
from scripts.data.datalist import list_images, make_datalist, prepare_datalist, read_datalist
from scripts.data.names import scan_key
from scripts.data.splits import SPLITS, split_patients

NAMES = ["background", "body", "bones"]


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Twenty patients with one to three scans, as empty files."""
    return scans(tmp_path / "data", 20)


def scans(root: Path, patients: int) -> Path:
    keys = [(patient, week) for patient in range(patients) for week in range(1 + patient % 3)]
    images = [f"semantic_MRs/C{patient:03d}_Week{week}_LFOV.nii.gz" for patient, week in keys]
    labels = [f"semantic_labels/C{patient:03d}_Week{week}_SEMANTIC.nii.gz" for patient, week in keys]
    return stubs(root, images + labels)


def patients_of(entries) -> set[str]:
    return {entry["patient"] for entry in entries}


def written(path: Path, **content) -> Path:
    path.write_text(json.dumps(content))
    return path


def pair(name: str, **more) -> dict:
    return {"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz", **more}


def by_hand(folder: Path, **content) -> Path:
    """A list and the files that it names."""
    entries = [entry for split in SPLITS for entry in content.get(split, [])]
    names = [entry[key] for entry in entries for key in ("image", "label") if key in entry]
    return written(stubs(folder, names) / "list.json", **content)


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_two_sides(dataset, seed):
    content = make_datalist(dataset, seed=seed)
    sides = [patients_of(content[split]) for split in SPLITS]
    assert sum(len(side) for side in sides) == len(set.union(*sides)) == 20
    assert [len(side) for side in sides] == [14, 3, 3]
    assert sum(len(content[split]) for split in SPLITS) == sum(1 + n % 3 for n in range(20))


def test_the_seed_decides(dataset):
    assert make_datalist(dataset, seed=3) == make_datalist(dataset, seed=3)
    assert patients_of(make_datalist(dataset, seed=3)["test"]) != patients_of(make_datalist(dataset, seed=4)["test"])


def test_a_split_depends_on_the_patients_alone(dataset, tmp_path):
    """More scans of known patients do not change their split."""
    more = [f"semantic_{kind}/C007_Week9.nii.gz" for kind in ("MRs", "labels")]
    before, after = make_datalist(dataset), make_datalist(stubs(dataset, more))
    assert [patients_of(before[split]) for split in SPLITS] == [patients_of(after[split]) for split in SPLITS]
    assert sum(len(after[split]) - len(before[split]) for split in SPLITS) == 1


@pytest.mark.parametrize("folds", [2, 5])
def test_every_patient_validates_in_one_fold(dataset, tmp_path, folds):
    lists = [
        prepare_datalist(str(tmp_path / "list.json"), str(dataset), NAMES, folds=folds, fold=fold, test=0.2)
        for fold in range(folds)
    ]
    count = Counter()
    for content in lists:
        sides = [{Path(entry["image"]).name[:4] for entry in content[split]} for split in SPLITS]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert len(sides[0] | sides[1]) == 16 and len(sides[2]) == 4
        assert abs(len(sides[1]) - 16 / folds) < 1
        count.update(sides[1])
    assert len(count) == 16 and set(count.values()) == {1}


@pytest.mark.parametrize(
    "count, validation, test, expected",
    [
        (2, 0.15, 0.15, (1, 1, 0)),
        (3, 0.15, 0.15, (1, 1, 1)),
        (3, 0.0, 0.15, (2, 0, 1)),
        (2, 0.0, 0.5, (1, 0, 1)),
        (2, 0.5, 0.3, (1, 1, 0)),
        (4, 0.15, 0.15, (2, 1, 1)),
        (4, 0.45, 0.45, (1, 1, 2)),
        (38, 0.15, 0.15, (26, 6, 6)),
        (100, 0.2, 0.1, (70, 20, 10)),
        (100, 0.0, 0.0, (100, 0, 0)),
    ],
)
def test_shares(count, validation, test, expected):
    sides = split_patients([f"{n:03d}" for n in range(count)], validation, test, 0, 0, "here")
    assert tuple(Counter(split for split, _ in sides.values())[split] for split in SPLITS) == expected


@pytest.mark.parametrize(
    "count, options, words",
    [
        (1, {}, ["1 patient(s)", "expected 2"]),
        (3, {"folds": 3}, ["3 patient(s)", "expected 4"]),
        (9, {"folds": 1}, ["folds is 1"]),
        (9, {"folds": -2}, ["folds is -2"]),
        (9, {"validation": 0.5, "test": 0.5}, ["validation is 0.5", "test is 0.5"]),
        (9, {"validation": -0.1}, ["validation is -0.1"]),
        (9, {"test": 1}, ["test is 1"]),
    ],
)
def test_splits_that_cannot_be_made(count, options, words, tmp_path):
    message = refusal(make_datalist, scans(tmp_path, count), **options)
    assert all(word in message for word in words)


def test_too_few_patients_are_reported_with_their_folder(tmp_path):
    assert str(tmp_path) in refusal(make_datalist, scans(tmp_path, 1))
    assert str(tmp_path) in refusal(make_datalist, tmp_path / "nowhere")


@pytest.mark.parametrize("labels", [{"0": "a", "1": "b"}, {"a": 0, "b": 1}])
def test_class_names_against_the_folder(dataset, labels):
    written(dataset / "dataset.json", labels=labels)
    message = refusal(make_datalist, dataset, NAMES)
    assert str(dataset / "dataset.json") in message and "2 classes" in message and "expects 3" in message
    assert "['a', 'b']" in message
    assert make_datalist(dataset, ["x", "y"])["class_names"] == ["x", "y"]
    assert make_datalist(dataset)["class_names"] == ["a", "b"]
    message = refusal(make_datalist, dataset, ["b", "a"])
    assert "in the order ['a', 'b'], " in message and message.endswith("say --class_names \"['a', 'b']\"")


def test_what_a_list_says_of_itself(dataset):
    written(dataset / "phantom.json", description="synthetic")
    content = make_datalist(dataset, NAMES, seed=5)
    assert (content["description"], content["class_names"], content["seed"]) == ("synthetic", NAMES, 5)
    assert content["dataset_dir"] == str(dataset.resolve())
    assert not any(Path(entry["image"]).is_absolute() for entry in content["training"])


def test_a_list_by_hand(tmp_path):
    """Paths are relative to the list; patients are taken from the names; a test entry may be a plain path."""
    training, test = [pair("C004_Week0"), pair("C004_Week1"), pair("sub/other")], ["C009_Week3.nii.gz"]
    stubs(tmp_path, test)
    path = by_hand(tmp_path, training=training)
    content = read_datalist(written(path, training=training, test=test))
    assert [entry["patient"] for entry in content["training"]] == ["004", "004", "other"]
    assert content["training"][2]["label"] == str(tmp_path / "sub/other_label.nii.gz")
    assert content["test"] == [{"image": str(tmp_path / "C009_Week3.nii.gz"), "patient": "009"}]
    assert content["validation"] == []


def test_where_relative_paths_start(tmp_path):
    for name in ("by_list", "own", "given"):
        stubs(tmp_path / name, ["a.nii.gz"])
    path = written(tmp_path / "by_list" / "list.json", test=["a.nii.gz"])
    assert read_datalist(path)["test"][0]["image"] == str(tmp_path / "by_list" / "a.nii.gz")
    written(path, test=["a.nii.gz"], dataset_dir=str(tmp_path / "own"))
    assert read_datalist(path)["test"][0]["image"] == str(tmp_path / "own" / "a.nii.gz")
    assert read_datalist(path, tmp_path / "given")["test"][0]["image"] == str(tmp_path / "given" / "a.nii.gz")


@pytest.mark.parametrize(
    "content, sides",
    [
        ({"training": [pair("C004_Week0")], "test": [pair("C004_Week1")]}, ["training", "test"]),
        ({"training": [pair("C004_Week0")], "validation": [pair("C004_Week1")]}, ["training", "validation"]),
        ({"validation": [pair("C004_Week0")], "test": [pair("C004_Week1")]}, ["validation", "test"]),
        (
            {"training": [pair("C004_Week0", fold=0), pair("C004_Week1", fold=1)]},
            ["training fold 0", "training fold 1"],
        ),
        (
            {"training": [pair("C004_Week0", patient=4)], "test": [pair("C004_Week1", patient="4")]},
            ["training", "test"],
        ),
        ({"training": [pair("C004_Week0", fold=0), pair("C004_Week1")]}, ["training fold 0", "training"]),
    ],
)
def test_a_patient_on_two_sides_is_refused(content, sides, tmp_path):
    path = by_hand(tmp_path, **content)
    message = refusal(read_datalist, path)
    assert all(word in message for word in (str(path), *sides, "C004_Week0.nii.gz", "C004_Week1.nii.gz"))
    assert "patient 004" in message or "patient 4" in message


def test_what_is_null_is_not_given(tmp_path):
    """Programs that write every key write null where they know nothing."""
    nothing = {"patient": None, "week": None, "fold": None}
    stubs(tmp_path, ["c.nii.gz", *pair("a").values(), *pair("b").values()])
    lists = {"training": [pair("a", **nothing)], "validation": [pair("b", **nothing)]}
    path = written(tmp_path / "list.json", **lists, test=[{"image": "c.nii.gz", "label": None, **nothing}])
    content = read_datalist(path)
    assert [content[split][0]["patient"] for split in SPLITS] == ["a", "b", "c"]
    assert content["test"] == [{"image": str(tmp_path / "c.nii.gz"), "patient": "c"}]
    message = refusal(read_datalist, written(path, training=[{"image": "a.nii.gz", "label": None}]))
    assert "under training has no label" in message


def test_further_keys_of_an_entry_are_left_alone(tmp_path):
    path = by_hand(tmp_path, training=[pair("a", patient="4", scanner="x", folder="y", images=2)], classes=["a", "b"])
    assert read_datalist(path)["training"][0]["scanner"] == "x"


def test_patients_given_by_hand_come_before_names(tmp_path):
    """The same file name may belong to two patients, if the list says so."""
    path = by_hand(tmp_path, training=[pair("C004_Week0", patient="A4")], test=[pair("C004_Week1", patient="B4")])
    assert [read_datalist(path)[split][0]["patient"] for split in ("training", "test")] == ["A4", "B4"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"training": [pair("a"), pair("a")]}, ["a.nii.gz", "training and again in training"]),
        ({"training": [pair("a")], "test": ["./a.nii.gz"]}, ["a.nii.gz", "training and again in test"]),
        ({"training": [pair("b")]}, ["b.nii.gz", "under training, but no such file", '"dataset_dir" in the list']),
        ({"test": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}, ["b.nii.gz", "under test, but no such file"]),
        ({"training": [{"image": "a.nii.gz"}]}, ["under training has no label"]),
        ({"validation": ["a.nii.gz"]}, ["under validation has no label"]),
        ({"test": [{"label": "a.nii.gz"}]}, ["under test has no image"]),
        ({"test": [{"image": 3}]}, ["under test has no image"]),
        ({"test": [["a.nii.gz"]]}, ["under test", "expected an object"]),
        ({"training": [3]}, ["under training", "expected an object"]),
        ({"training": None}, ["training is a NoneType", "expected a list"]),
        ({"training": {"image": "a.nii.gz"}}, ["training is a dict", "expected a list"]),
        ({"train": [pair("a")]}, ["found 'train'", "expected training, validation, test"]),
        ({"training": [pair("a")], "val": [pair("b")]}, ["found 'val'", "expected training, validation, test"]),
        ({"training": [pair("a")], "tests": []}, ["found 'tests'", "expected training, validation, test"]),
        ({"training": [pair("a", patiant="4")]}, ["found 'patiant'", "under training, expected 'patient'"]),
        ({"training": [pair("a", patient_id="4")]}, ["found 'patient_id'", "under training, expected 'patient'"]),
        ({"training": [pair("a", fold="0")]}, ["the fold of an entry is '0'", "expected a whole number"]),
        ({"training": [], "test": []}, ["no entries"]),
    ],
)
def test_wrong_lists_are_refused(content, words, tmp_path):
    stubs(tmp_path, pair("a").values())
    path = written(tmp_path / "list.json", **content)
    message = refusal(read_datalist, path)
    assert all(word in message for word in (str(path), *words))


@pytest.mark.parametrize("text, word", [("", "JSON"), ("{'training': []}", "JSON"), ("[]", "a list"), ("3", "an int")])
def test_a_file_that_is_no_list_is_refused(text, word, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(text)
    message = refusal(read_datalist, path)
    assert str(path) in message and word.removeprefix("an ").removeprefix("a ") in message


def test_prepare_writes_once_and_reads_after_that(dataset, tmp_path, monkeypatch):
    path = tmp_path / "out" / "list.json"
    first = prepare_datalist(str(path), str(dataset), NAMES, seed=1)
    before = path.read_bytes()
    assert prepare_datalist(str(path), str(dataset), NAMES, seed=2) == first
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["list.json"]
    assert set(first) == {*SPLITS, "patients", "description", "datalist"}
    assert {entry["image"]: scan_key(entry["image"])[0] for split in SPLITS for entry in first[split]} == first[
        "patients"
    ]
    entries = [entry for split in SPLITS for entry in first[split]]
    assert all(set(entry) == {"image", "label"} and Path(entry["image"]).is_file() for entry in entries)


def test_a_broken_write_leaves_no_list(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        prepare_datalist(str(tmp_path / "list.json"), str(dataset), NAMES)
    assert not (tmp_path / "list.json").exists()


def test_prepare_refuses_to_make_a_list_where_training_should_have(dataset, tmp_path):
    path = tmp_path / "list.json"
    message = refusal(prepare_datalist, str(path), str(dataset), NAMES, create=False)
    assert str(path) in message and "no such datalist" in message and not path.exists()
    prepare_datalist(str(path), str(dataset), NAMES)
    assert prepare_datalist(str(path), str(dataset), NAMES, create=False)["test"]


@pytest.mark.parametrize("names", [["background", "body"], ["background", "bones", "body"]])
def test_prepare_refuses_a_list_for_other_classes(dataset, tmp_path, names):
    path = tmp_path / "list.json"
    prepare_datalist(str(path), str(dataset), NAMES)
    message = refusal(prepare_datalist, str(path), str(dataset), names)
    assert str(path) in message and str(NAMES) in message and str(names) in message


def test_a_list_of_another_folder_is_refused_with_a_hint(dataset, tmp_path):
    path = tmp_path / "list.json"
    prepare_datalist(str(path), str(dataset), NAMES)
    message = refusal(prepare_datalist, str(path), str(tmp_path / "elsewhere"), NAMES)
    assert str(tmp_path / "elsewhere" / "semantic_MRs") in message and "--dataset_dir" in message


@pytest.mark.parametrize("folds, fold, words", [(3, 3, ["[0, 1, 2]"]), (3, None, ["None"]), (0, 1, ["without folds"])])
def test_a_fold_that_is_not_there_is_refused(dataset, tmp_path, folds, fold, words):
    path = tmp_path / "list.json"
    message = refusal(prepare_datalist, str(path), str(dataset), NAMES, folds=folds, fold=fold)
    assert str(path) in message and f"fold is {fold}" in message and all(word in message for word in words)


def test_a_fold_of_an_earlier_list_without_folds_needs_another_list(dataset, tmp_path):
    path = tmp_path / "list.json"
    prepare_datalist(str(path), str(dataset), NAMES)
    message = refusal(prepare_datalist, str(path), str(dataset), NAMES, folds=3, fold=0)
    assert "made without folds" in message and "--output_dir or --datalist" in message and "--fold N" not in message


def test_images_of_a_file_and_a_folder(tmp_path):
    stubs(tmp_path, ["a.nii.gz", "b.nii.gz", "b_seg.nii.gz"])
    assert list_images(str(tmp_path / "a.nii.gz")) == [{"image": str(tmp_path / "a.nii.gz")}]
    assert list_images(str(tmp_path)) == [{"image": str(tmp_path / name)} for name in ("a.nii.gz", "b.nii.gz")]


def test_images_of_a_split(tmp_path):
    path = by_hand(tmp_path, training=[pair("a")], test=[pair("b"), pair("c")])
    assert list_images(str(path)) == [{"image": str(tmp_path / f"{name}.nii.gz")} for name in "bc"]
    assert list_images(str(path), "training") == [{"image": str(tmp_path / "a.nii.gz")}]
    message = refusal(list_images, str(path), "validation")
    assert str(path) in message and "'validation'" in message


@pytest.mark.parametrize("source", ["list.json", "b.nii.gz", "."])
def test_among_images_that_are_no_series_none_is_chosen(source, tmp_path):
    by_hand(tmp_path, test=[{"image": "b.nii.gz"}])
    assert "leave --series out" in refusal(list_images, str(tmp_path / source), series=5)


@pytest.mark.parametrize("listed", [True, False])
def test_images_of_one_name_are_refused(listed, tmp_path):
    """Their results would have the same name as well."""
    names = ["x/t2.nii.gz", "y/t2.nii.gz"]
    test = [{"image": name, "patient": name[0]} for name in names]
    path = by_hand(tmp_path, test=test)
    message = refusal(list_images, str(path if listed else tmp_path))
    assert all(str(tmp_path / name) in message for name in names)


def test_images_that_are_not_there(tmp_path):
    for missing in ("nowhere", "list.json", "a.nii.gz"):
        assert str(tmp_path / missing) in refusal(list_images, str(tmp_path / missing))


def test_command_line(dataset, tmp_path, capsys):
    output = tmp_path / "list.json"
    main(str(dataset), str(output), seed=2)
    content, lines = read_datalist(output), capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines[:3]]
    assert [(line[0], int(line[1]), int(line[3])) for line in shown] == [
        (split, len(patients_of(content[split])), len(content[split])) for split in SPLITS
    ]
    assert lines[3:] == [f"written: {output}"]


def test_command_line_with_folds(dataset, tmp_path, capsys):
    main(str(dataset), str(tmp_path / "list.json"), folds=4, test=0, class_names=NAMES)
    content = json.loads((tmp_path / "list.json").read_text())
    assert {entry["fold"] for entry in content["training"]} == {0, 1, 2, 3}
    assert content["class_names"] == NAMES and content["test"] == content["validation"] == []
    assert capsys.readouterr().out.split()[:3] == ["training", "20", "patients"]


def test_phantoms_are_read(phantoms, tmp_path):
    content = prepare_datalist(str(tmp_path / "list.json"), str(phantoms), ["background", *"abcde"])
    assert [len(content[split]) for split in SPLITS] == [6, 2, 2]
    assert "phantom" in content["description"]


@pytest.mark.parametrize("option, value", [
    ("class_names", "background"), ("class_names", ["background", 5]), ("folds", 2.5), ("seed", "abc"), ("seed", -1),
    ("validation", "much"),
])  # fmt: skip
def test_values_of_another_kind_are_refused(option, value, tmp_path):
    assert refusal(main, str(tmp_path), str(tmp_path / "list.json"), **{option: value}).startswith(option)
    assert not (tmp_path / "list.json").exists()
