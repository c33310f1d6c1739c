"""Memory: how much there is, and how large tensors on a CPU use the same one again."""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE, KEPT = 2**30, 2**31 - 1  # bytes; blocks of LARGE or more, and free memory above KEPT, go back to the system
MACHINE, PROCESS = Path("/proc/meminfo"), Path("/proc/self/status")
GROUPS, CONTAINER = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # a container or a job may have less
GROUP_FILES = {  # by the version of control groups: the limit, what is used, what of it the system gives back
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def keep_freed() -> bool:
    """Tells the C library to keep freed memory in the process. Returns whether it supports this (only glibc does).

    By default glibc returns every block over 32 MiB to the system as soon as it is freed. The system then clears the
    next block page by page, which takes a third of the time of a forward pass at 128x128x64.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(MMAP_THRESHOLD, LARGE) and library.mallopt(TRIM_THRESHOLD, KEPT))


def available_memory() -> int | None:
    """Bytes that this process can still take: of the machine, or less where its container or its job has a limit of its
    own. None if the system does not tell."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        found.append(bytes_in(MACHINE, "MemAvailable"))
    for folder, version in control_groups():
        limit_file, used_file, kind = GROUP_FILES[version]
        with suppress(OSError, ValueError):  # "max" where there is no limit
            limit = int((folder / limit_file).read_text(encoding="ascii"))
            used = int((folder / used_file).read_text(encoding="ascii"))
            kinds = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            found.append(max(0, limit - used + int(kinds.get(kind, 0))))
    return min(found, default=None)


def control_groups() -> Iterator[tuple[Path, int]]:
    """The folders of the groups that this process is in, from its own to the outermost, each with its version."""
    lines = GROUPS.read_text(encoding="ascii").splitlines() if GROUPS.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, version = (CONTAINER / "memory", 1) if controllers else (CONTAINER, 2)
        inside = Path(path.lstrip("/"))
        for part in dict.fromkeys((inside, *inside.parents)):
            yield root / part, version


def peak_memory() -> int:
    """The most bytes that this process has held so far."""
    with suppress(
        OSError, ValueError, StopIteration
    ):  # Linux: getrusage would begin with the peak of the parent process
        return bytes_in(PROCESS, "VmHWM")
    import resource  # which Windows does not have

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bytes_in(file: Path, name: str) -> int:
    """A number of KiB that the system tells in a file, in bytes."""
    lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
