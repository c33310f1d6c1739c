"""Runs of the shipped configurations in several processes under torchrun, on one machine or as if on several."""

import socket
import subprocess
import sys

from conftest import BUNDLE

WAIT_S = 600


def command_line(run_id: str, files: list[str], processes: int = 2, rendezvous: tuple = ("--standalone",), **overrides):
    """`torchrun` on the shipped configurations, as a user would type it."""
    arguments = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *rendezvous]
    command += ["-m", "monai.bundle", "run", run_id, "--config_file", str([f"configs/{file}" for file in files])]
    return [*command, *arguments]


def launch(run_id: str, files: list[str], processes: int = 2, nodes: int = 1, **overrides) -> list[subprocess.Popen]:
    """Starts one agent of torchrun for each node, from the bundle's root; they find each other on this machine."""
    meeting: tuple = ("--standalone",)
    if nodes > 1:
        place = f"127.0.0.1:{free_port()}"
        meeting = ("--nnodes", str(nodes), "--rdzv_id", "test", "--rdzv_backend", "c10d", "--rdzv_endpoint", place)
    command = command_line(run_id, files, processes, meeting, **overrides)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return [subprocess.Popen(command, cwd=BUNDLE, **piped) for _ in range(nodes)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(run_id: str, files: list[str], processes: int = 2, nodes: int = 1, status: int = 0, **overrides) -> str:
    """What a run has printed, once all its agents have ended; the first one that fails decides the status."""
    agents = launch(run_id, files, processes, nodes, **overrides)
    printed = [agent.communicate(timeout=WAIT_S)[0] for agent in agents]
    assert max(agent.returncode for agent in agents) == status, "\n".join(text[-3000:] for text in printed)
    return "\n".join(printed)
