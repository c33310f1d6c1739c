"""What the benchmarks share: phantoms in a temporary folder and the shipped configurations."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai.bundle import ConfigWorkflow

BUNDLE = Path(__file__).resolve().parent.parent / "bundle"
sys.path.insert(0, str(BUNDLE))


@contextmanager
def training(files: list[str], patients: int, scans: int, size: tuple, **overrides) -> Iterator[ConfigWorkflow]:
    """An initialised training workflow on fresh phantoms; every file it writes goes with the context."""
    from scripts import phantom

    with tempfile.TemporaryDirectory() as folder:
        phantom.generate(f"{folder}/data", patients=patients, scans=scans, size=size, seed=0)
        paths = {"dataset_dir": f"{folder}/data", "output_dir": f"{folder}/output", "ckpt_dir": f"{folder}/models"}
        made = ConfigWorkflow(
            config_file=[str(BUNDLE / "configs" / file) for file in files],
            workflow_type="train",
            run_id="training",
            bundle_root=str(BUNDLE),
            **paths,
            **overrides,
        )
        made.initialize()
        yield made
        made.finalize()
