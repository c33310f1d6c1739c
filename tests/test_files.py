import logging

import pytest

from scripts.files import set_aside, whole


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with whole(file) as partial:
        partial.write_text("first")
        assert not file.exists()
    with pytest.raises(RuntimeError), whole(file) as partial:
        partial.write_text("sec")
        raise RuntimeError
    assert file.read_text() == "first"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]


def test_set_aside_counts_up(tmp_path, caplog):
    file = tmp_path / "model.pt"
    set_aside(file)
    assert list(tmp_path.iterdir()) == []
    with caplog.at_level(logging.INFO):
        for text in ("first", "second", "third"):
            file.write_text(text)
            set_aside(file)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"model.1.pt": "first", "model.2.pt": "second", "model.3.pt": "third"}
    assert "model.2.pt" in caplog.messages[1] and str(file) in caplog.messages[1]
