"""Writing so that nothing done gets lost: a file is whole or as it was, and an earlier run's is renamed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Gives a path beside `file`; what is written there is forced to disk and takes its place, or is thrown away."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def set_aside(file: Path) -> None:
    """Renames what an earlier run left, `model.pt` to `model.1.pt` and so on."""
    if file.exists():
        number = 1
        while (kept := file.with_name(f"{file.stem}.{number}{file.suffix}")).exists():
            number += 1
        file.rename(kept)
        logger.info(f"{file} of an earlier run is kept as {kept.name}")
