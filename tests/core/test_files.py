import errno
import logging
import os
import stat

import pytest
from helpers import refusal

from scripts.core.files import atomic_write, rename_previous, write_json


def test_a_file_is_complete_or_unchanged(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with atomic_write(file) as partial:
        partial.write_text("first")
        assert not file.exists()
    with pytest.raises(RuntimeError), atomic_write(file) as partial:
        partial.write_text("sec")
        raise RuntimeError
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    "options, text", [({}, '{\n  "a": [\n    "\\u00e9"\n  ]\n}\n'), ({"indent": None}, '{"a": ["\\u00e9"]}\n')]
)
def test_json_is_plain_text_and_complete(options, text, tmp_path):
    write_json({"a": ["é"]}, tmp_path / "file.json", **options)
    assert (tmp_path / "file.json").read_bytes() == text.encode("ascii")
    with pytest.raises(TypeError):
        write_json({"a": {1, 2}}, tmp_path / "file.json", **options)
    assert (tmp_path / "file.json").read_text() == text and len(list(tmp_path.iterdir())) == 1


def test_set_aside_counts_up(tmp_path, caplog):
    file = tmp_path / "model.pt"
    rename_previous(file)
    assert list(tmp_path.iterdir()) == []
    with caplog.at_level(logging.INFO):
        for text in ("first", "second", "third"):
            file.write_text(text)
            rename_previous(file)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"model.1.pt": "first", "model.2.pt": "second", "model.3.pt": "third"}
    assert "model.2.pt" in caplog.messages[1] and str(file) in caplog.messages[1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("needed, words", [(None, "could not be written"), (12345, "12,345 bytes are needed")])
def test_a_full_disk_is_reported_in_one_line(needed, words, code, tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("first")

    def write():
        with atomic_write(file, needed) as partial:
            partial.write_text("sec")
            raise OSError(code, os.strerror(code))

    message = refusal(write)
    assert str(file) in message and words in message and os.strerror(code) in message and "are free" in message
    assert file.read_text() == "first" and [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_another_error_of_the_disk_is_no_full_one(tmp_path):
    with pytest.raises(PermissionError), atomic_write(tmp_path / "file.txt"):
        raise PermissionError(errno.EACCES, "denied")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    """And not the hidden file, which would have become it."""
    write_json({}, tmp_path / "file.json")
    (tmp_path / "folder.json").mkdir()
    for place in (tmp_path / "folder.json", tmp_path / "file.json" / "inside.json"):
        assert refusal(write_json, {}, place).startswith(f"{place}: can't be written (")


def test_data_and_name_are_forced_to_disk_in_this_order(tmp_path, monkeypatch):
    """The contents are synced before the new name; otherwise a power cut may keep the name without the contents."""
    steps = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "data")
        return real["fsync"](handle)

    def replace(source, target):
        steps.append("rename")
        return real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("text")
    assert steps == ["data", "rename", "folder"]
