"""The job files for Slurm: what they start, the status that they end with, and how they go back into the queue.

Small programs take the place of Slurm's own.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import BUNDLE
from docs.test_guide import faults

FILES = sorted((BUNDLE / "docs" / "how-to" / "slurm").glob("*.sbatch"))
SRUN = """
printf '%s\\n' "$@" > "$LOG/words"
echo $$ > "$LOG/part"
mv "$LOG/part" "$LOG/pid"
[ -z "${WAITS:-}" ] || exec sleep 60
exit $STATUS
"""
PROGRAMS = {
    "srun": SRUN,
    "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; else echo "$@" > "$LOG/asked"; fi',
    "scancel": 'echo "$@" > "$LOG/told"; kill -TERM "$(cat "$LOG/pid")"',
}
JOB = {
    "SLURM_JOB_ID": "20017",
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "32",
    "SLURM_ARRAY_TASK_ID": "3",
    **{"DATA": "data", "MODELS": "models", "OUT": "out"},
}

pytestmark = [
    pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash"),
    pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem),
]


def start(file: Path, folder: Path, **changes: str) -> subprocess.Popen:
    """The job file as Slurm would start it, with words for the run at its end."""
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    given = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LOG": str(folder),
        "STATUS": "0",
        **JOB,
        **changes,
    }
    return subprocess.Popen(
        ["bash", file, "--amp", "False"], env=given, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def started(folder: Path) -> list[str]:
    """The words that `srun` was given, without its own."""
    words = (folder / "words").read_text().split("\n")[:-1]
    return words[words.index("python") :]


@pytest.mark.parametrize("status", [0, 1])
def test_a_job_starts_a_command_that_the_bundle_knows(file, status, tmp_path):
    job = start(file, tmp_path, STATUS=str(status))
    said = job.communicate(timeout=60)[1]
    assert (job.returncode, said) == (status, "")
    words = started(tmp_path)
    assert faults(words) == [] and words[-2:] == ["--amp", "False"]
    assert words[words.index("--resume") + 1] == "True" and not (tmp_path / "asked").exists()
    if "--nnodes" in words:
        launcher = words[words.index("--nnodes") : words.index("monai.bundle")]
        assert launcher == ["--nnodes", "2", "--nproc_per_node", "4", "--rdzv_id", "20017-0", "--rdzv_backend", "c10d",
                            "--rdzv_endpoint", "node7:20017", "-m"]  # fmt: skip
    else:
        assert words[words.index("--fold") + 1] == "3" and words[words.index("--ckpt_dir") + 1] == "out/fold3/models"


def test_a_job_whose_time_is_over_goes_back_into_the_queue(file, tmp_path):
    job = start(file, tmp_path, WAITS="yes")
    while not (tmp_path / "pid").is_file():
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGTERM)  # as --signal=B:TERM has it
    job.communicate(timeout=60)
    assert job.returncode != 0
    assert (tmp_path / "told").read_text() == "--signal=TERM 20017\n"
    assert (tmp_path / "asked").read_text() == "requeue 20017\n"


def test_a_job_without_its_folders_is_refused(file, tmp_path):
    job = start(file, tmp_path, DATA="")
    assert "DATA: is the folder of the" in job.communicate(timeout=60)[1]
    assert job.returncode != 0 and not (tmp_path / "words").exists()


def test_the_command_at_the_top_is_the_files_own(file):
    text = file.read_text()
    (line,) = re.findall(r"^#     (.*)$", text, re.MULTILINE)
    given, path = re.findall(r"(\w+)=\S+", line), line.split()[-1]
    assert (BUNDLE / path) == file and set(given) == set(re.findall(r"\$\{(\w+):\?", text))
    assert "--signal=B:TERM@" in text and "--requeue" in text and "--open-mode=append" in text
