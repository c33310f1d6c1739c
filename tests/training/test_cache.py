"""Where prepared cases are kept: what is chosen; whether the cache on disk is right, shared, bounded, hard to break."""

import importlib
import logging
import os
import shutil
import time
from contextlib import contextmanager

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import run
from helpers import refusal, rows, save_labels
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Lambdad,
    LoadImaged,
    NormalizeIntensityd,
    RandFlipd,
    ScaleIntensityd,
    ToTensord,
)

from scripts.training import cache, disk_cache
from scripts.training.checkpoint_files import read_checkpoint
from scripts.training.disk_cache import DiskCache, DiskCacheDataset

KEYS = ["image", "label"]
SHAPE = (16, 12, 10)
OWN_STEP = """
from monai.transforms import Transform
class Double(Transform):
    def __call__(self, case):
        return case | {"image": case["image"] * 2}
"""


def choose(chain, data, splits=("training", "validation"), where="auto", rate=1.0, folder="unused", limit=1.0, **more):
    return cache.choose_cache(chain, data, splits, where, rate, folder, limit, **more)


@pytest.mark.parametrize("rate, cached", [(1.0, 12), (0.5, 6), (0.0, 0)])
@pytest.mark.parametrize("random", [True, False])
def test_the_size_that_is_said_is_that_of_the_kept_cases(rate, cached, random, caplog):
    def double(image):
        return image.repeat(1, 1, 1, 2)

    steps = [ToTensord(KEYS), Lambdad("image", double)]
    chain = Compose([*steps, RandFlipd(["image"], prob=1.0)] if random else steps)
    item = {"image": torch.zeros(1, 16, 32, 64), "label": torch.zeros(1, 16, 32, 128, dtype=torch.uint8)}
    data = {"training": [item] * 8, "validation": [item] * 4, "test": [item]}
    with caplog.at_level(logging.INFO):
        kept = choose(chain, data, where="memory", rate=rate)
    held = [
        entry for split in ("training", "validation") for entry in cache.kept_dataset(data[split], chain, kept)._cache
    ]
    each = sum(t.numel() * t.element_size() for t in (double(item["image"]), item["label"]))
    line = caplog.messages[-1]
    assert len(held) == cached and line.startswith(
        f"cache: {cached} cases of 16 x 32 x 128, {each / 2**20:.1f} MiB each"
    )
    total = sum(entry[key].numel() * entry[key].element_size() for entry in held for key in KEYS)
    assert f"{total / 2**30:.2f} GiB in total, in memory" in line


def test_no_cases_to_keep():
    message = refusal(choose, Compose([]), {"training": []}, ["training"])
    assert "no training cases in the datalist" in message
    nothing = {"training": [], "validation": []}
    message = refusal(choose, Compose([]), nothing, ["validation"])
    assert "no validation cases" in message and "--keep_last True" in message
    assert "no training cases" in refusal(choose, Compose([]), nothing, ["training"], keep_last=True)


def test_every_process_needs_a_case(monkeypatch):
    monkeypatch.setattr(cache, "number_and_count", lambda: (0, 2))
    item = {"image": torch.zeros(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 4)}
    message = refusal(choose, Compose([]), {"training": [item] * 2, "validation": [item]})
    assert "1 validation cases for 2 processes" in message
    choose(Compose([]), {"training": [item] * 2, "validation": [item] * 2})
    choose(Compose([]), {"training": [item] * 2, "validation": []}, keep_last=True)


@pytest.mark.parametrize(
    "free, processes, rate, where",
    [(100, 1, 1.0, "memory"), (None, 1, 1.0, "memory"), (12, 1, 1.0, "disk"), (12, 1, 0.5, "memory")]
    + [(40, 1, 1.0, "memory"), (40, 4, 1.0, "disk")],
)
def test_auto_takes_the_memory_where_the_cases_fit_with_room_to_spare(
    free, processes, rate, where, tmp_path, monkeypatch, caplog
):
    """Ten cases of one MiB; each process on a machine holds all of them."""
    item = {"image": torch.zeros(1, 64, 64, 60), "label": torch.zeros(1, 64, 64, 16)}
    size = 10 * sum(part.numel() * part.element_size() for part in item.values())
    monkeypatch.setattr(cache, "available_memory", lambda: free and int(size * free / 10))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    with caplog.at_level(logging.INFO):
        kept = choose(Compose([]), {"training": [item] * 10}, ["training"], rate=rate, folder=tmp_path / "kept")
    assert kept.where == where and (kept.disk is not None) == (tmp_path / "kept").exists() == (where == "disk")
    assert ("on disk in" in caplog.messages[-1]) == (where == "disk")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    item = {"image": torch.zeros(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 4)}
    message = refusal(choose, Compose([]), {"a": [item]}, ["a"], "disk", folder=tmp_path / "file")
    assert str(tmp_path / "file") in message and "--cache_dir" in message


def test_a_cache_that_is_too_small_is_said(tmp_path, caplog):
    item = {"image": torch.zeros(1, 64, 64, 64), "label": torch.zeros(1, 64, 64, 64)}
    for limit, small in ((1, False), (0.01, True)):
        with caplog.at_level(logging.INFO):
            choose(Compose([]), {"a": [item] * 20}, ["a"], "disk", folder=tmp_path, limit=limit)
        assert ("do not fit" in caplog.messages[-1]) == small


@pytest.fixture
def cases(tmp_path) -> list[dict]:
    """Four small images with labels; each has an affine of its own."""
    made, random = [], np.random.default_rng(0)
    for number in range(4):
        affine = np.diag([1.0 + number, 1, 1, 1])
        image, label = tmp_path / "data" / f"{number}.nii.gz", tmp_path / "data" / f"{number}_seg.nii.gz"
        save_labels(label, random.integers(0, 2, SHAPE), affine)
        nib.save(nib.Nifti1Image(random.normal(size=SHAPE).astype(np.float32), affine), image)
        made.append({"image": str(image), "label": str(label)})
    return made


@pytest.fixture
def dataset(tmp_path):
    """Makes a data set on disk that counts how many cases it has prepared."""

    def make(cases, limit=2**30, steps=(), folder=tmp_path / "kept"):
        folder.mkdir(exist_ok=True)
        done: list = []
        fixed = [LoadImaged(KEYS, image_only=True), EnsureChannelFirstd(KEYS), NormalizeIntensityd("image"), *steps]
        made = DiskCacheDataset(cases, Compose([*fixed, RandFlipd(KEYS, prob=0.0)]), DiskCache(folder, limit))
        whole = made.transform

        def counted(item, start=0, end=None):
            done.extend([item] if start == 0 else [])
            return whole(item, start=start, end=end)

        made.transform = counted
        return made, done

    return make


def files(folder) -> list:
    return sorted(folder.glob("*.case"))


def test_a_kept_case_is_what_memory_would_hold(cases, dataset):
    chain = Compose([LoadImaged(KEYS, image_only=True), EnsureChannelFirstd(KEYS), NormalizeIntensityd("image")])
    in_memory = CacheDataset(cases, chain, progress=False)
    for _ in range(2):  # as it is made, and as it is read
        on_disk, _ = dataset(cases)
        for ours, theirs in zip(on_disk, in_memory):
            for key in KEYS:
                assert isinstance(ours[key], MetaTensor) and torch.equal(ours[key].affine, theirs[key].affine)
                assert torch.equal(ours[key].as_tensor(), theirs[key].as_tensor())


def test_nothing_is_prepared_twice(cases, dataset, tmp_path):
    """Not in the next epoch, not by another run, and not where the same files lie in another folder."""
    first, done = dataset(cases)
    for _ in range(2):
        list(first)
    assert len(done) == 4 and len(files(tmp_path / "kept")) == 4
    second, done = dataset(cases)
    list(second)
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    moved = [{key: path.replace("/data/", "/moved/") for key, path in case.items()} for case in cases]
    third, also = dataset(moved)
    list(third)
    assert done == also == []


def test_the_entries_of_another_user_are_used(cases, dataset, monkeypatch):
    def refused(path):
        raise PermissionError(1, "Operation not permitted", str(path))  # as for a file that one may only read

    list(dataset(cases)[0])
    monkeypatch.setattr(os, "utime", refused)
    others, done = dataset(cases)
    list(others)
    assert done == []


def test_what_changes_a_case_makes_it_anew(cases, dataset, tmp_path):
    list(dataset(cases)[0])
    changed, done = dataset(cases, steps=[ScaleIntensityd("image")])
    list(changed)
    assert len(done) == 4
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), cases[0]["image"])
    image, done = dataset(cases)
    list(image)
    assert [case["image"] for case in done] == [cases[0]["image"]]
    save_labels(tmp_path / "data" / "1_seg.nii.gz", np.ones(SHAPE))
    label, done = dataset(cases)
    assert label[1]["label"].min() == 1 and len(done) == 1


def test_a_step_of_ones_own_makes_all_anew_where_its_code_changes(cases, dataset, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_step.py"
    file.write_text(OWN_STEP)
    step = importlib.import_module("own_step").Double()
    counts = []
    for factor in ("2", "2", "3"):
        file.write_text(OWN_STEP.replace("2", factor))
        made, done = dataset(cases, steps=[step])
        list(made)
        counts.append(len(done))
    assert counts == [4, 0, 4]


def test_the_code_of_a_reader_counts_as_well():
    own, monais = (LoadImaged("image", reader=reader) for reader in ("scripts.data.slices.SliceReader", None))
    assert disk_cache.source_of([own]) != disk_cache.source_of([monais]) == disk_cache.source_of([])


@pytest.mark.parametrize("harm", ["half", "empty", "foreign", "hostile", "turned"])
def test_a_damaged_entry_is_made_anew(harm, cases, dataset, tmp_path):
    whole = [item["image"] for item in dataset(cases)[0]]
    entry = files(tmp_path / "kept")[0]
    content = entry.read_bytes()
    if harm == "turned":  # torch knows two orders of bytes, and raises ValueError for a third one
        entry.write_bytes(content.replace(b"little", b"litter"))
    elif harm == "hostile":  # reading it must not run what is in it
        torch.save({"image": Hostile(tmp_path / "ran")}, entry)
    else:
        entry.write_bytes({"half": content[: len(content) // 2], "empty": b"", "foreign": b"no case at all"}[harm])
    again, done = dataset(cases)
    assert all(torch.equal(item["image"], image) for item, image in zip(again, whole))
    assert len(done) == 1 and not (tmp_path / "ran").exists() and disk_cache.read(entry) is not None


class Hostile:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return self.file.touch, ()


def test_a_kill_while_an_entry_is_written_leaves_no_half_of_it(cases, dataset, tmp_path):
    (tmp_path / "kept").mkdir()
    process = os.fork()
    if not process:
        os.replace = lambda *_: os._exit(1)
        try:
            dataset(cases)[0][0]
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1 and files(tmp_path / "kept") == []
    again, done = dataset(cases)
    list(again)
    assert len(done) == 4 and len(files(tmp_path / "kept")) == 4


def test_a_full_disk_is_no_error(cases, dataset, tmp_path, monkeypatch, caplog):
    """`/dev/full` takes the place of the file that is written, as if no byte of the disk were free."""
    linked = disk_cache.atomic_write

    @contextmanager
    def on_a_full_disk(file, *needed):
        with linked(file, *needed) as partial:
            if file.suffix == ".case":
                partial.symlink_to("/dev/full")
            yield partial

    monkeypatch.setattr(disk_cache, "atomic_write", on_a_full_disk)
    made, done = dataset(cases)
    for _ in range(2):
        list(made)
    assert len(done) == 8 and not any((tmp_path / "kept").glob("*.case"))
    assert len([message for message in caplog.messages if "nothing more is kept" in message]) == 1


def test_the_least_used_gives_way_and_a_run_keeps_its_own(cases, dataset, tmp_path):
    """Room for three cases of four."""
    list(dataset(cases[:2])[0])
    older, newer = files(tmp_path / "kept")
    limit = int(3.2 * older.stat().st_size)
    for entry, age in ((older, 2000), (newer, 1000)):
        os.utime(entry, (time.time() - age,) * 2)
    list(dataset(cases[2:], limit)[0])
    kept = files(tmp_path / "kept")
    assert len(kept) == 3 and newer in kept and older not in kept
    made, done = dataset(cases, limit)
    for number in range(4):
        list(made)
        if number:  # by now all that is there is its own
            assert len(done) == 1
        done.clear()
    assert sum(entry.stat().st_size for entry in files(tmp_path / "kept")) <= limit


def test_several_processes_share_a_folder(cases, dataset, tmp_path):
    first, second = (DataLoader(dataset(cases)[0], batch_size=1, num_workers=2) for _ in range(2))
    for one, other in zip(first, second):
        assert torch.equal(one["image"], other["image"])
    assert len(files(tmp_path / "kept")) == 4
    assert not [file for file in (tmp_path / "kept").rglob("*") if file.name.endswith(".partial")]


def test_other_cases_can_be_set_and_none_is_deleted(cases, dataset, tmp_path):
    made, _ = dataset(cases[:2])
    list(made)
    made.set_data(cases[2:])
    assert [item["image"].affine[0, 0] for item in made] == [3, 4] and len(files(tmp_path / "kept")) == 4


@pytest.mark.programs
def test_a_training_is_the_same_wherever_its_cases_are(phantoms, tmp_path):
    """And one that was begun in memory goes on from the disk."""
    curves = []
    for where in ("memory", "disk", "none"):
        paths = {"dataset_dir": phantoms, "output_dir": tmp_path / where, "ckpt_dir": tmp_path / where / "models"}
        given = {**paths, "datalist": tmp_path / "datalist.json", "cache_dir": tmp_path / "kept", "cache": where}
        run("train", ["train.json"], **given, epochs=2)
        curves.append(
            [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / where / "history.csv")]
        )
    assert curves[0] == curves[1] == curves[2] and files(tmp_path / "kept")
    given |= {"cache": "disk", "output_dir": tmp_path / "memory", "ckpt_dir": tmp_path / "memory" / "models"}
    run("train", ["train.json"], **given, epochs=3, resume=True)
    assert read_checkpoint(tmp_path / "memory" / "models" / "last.pt")["epoch"] == 3
