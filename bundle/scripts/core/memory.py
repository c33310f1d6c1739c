"""Memory of large tensors on a CPU: the process keeps it and uses it again. `scripts.run.session` and the benchmarks
call it."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGE, KEPT = 2**30, 2**31 - 1  # bytes; blocks of LARGE or more, and free memory above KEPT, go back to the system


def keep_freed() -> bool:
    """Tells the C library to keep freed memory in the process. Returns whether it supports this (only glibc does).

    By default glibc returns every block over 32 MiB to the system as soon as it is freed. The system then clears the
    next block page by page, which takes a third of the time of a forward pass at 128x128x64.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(MMAP_THRESHOLD, LARGE) and library.mallopt(TRIM_THRESHOLD, KEPT))
