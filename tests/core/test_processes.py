"""What several processes must have in common."""

import pytest
from helpers import refusal

from scripts.core import processes


@pytest.mark.parametrize("shared", [True, False])
def test_a_folder_that_is_another_one_for_some_is_refused(shared, tmp_path, monkeypatch):
    """The second of two processes, on a machine with or without the disk of the first."""
    folder = tmp_path / "models"
    monkeypatch.setattr(processes, "number_and_count", lambda: (1, 2))

    def first_process() -> None:
        if shared:
            folder.mkdir(exist_ok=True)
            (folder / ".shared").touch()

    monkeypatch.setattr(processes, "wait_for_all", first_process)
    monkeypatch.setattr(processes, "sum_of_all", lambda number: number)
    if shared:
        processes.refuse_separate_folders(folder)
    else:
        message = refusal(processes.refuse_separate_folders, folder)
        assert "1 of 2 processes see another folder" in message and "a disk that all share" in message
