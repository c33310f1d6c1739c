"""What inference leaves on disk: label maps on the input's own grid, volumes in ml, a picture of every case."""

import csv
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from ignite.engine import Engine, Events

from scripts.files import whole
from scripts.layouts import case_name
from scripts.pictures import overlay

logger = logging.getLogger(__name__)

DESCRIPTION = b"label map, research use only"


class Results:
    """Turns the map that SaveImaged wrote to `.partial` into `<case>_seg.nii.gz`, whole or not at all.

    The header is the input's: affine, form codes and units stay as they were, where SaveImaged would rewrite them.
    Beside the map come `<case>_overlay.png` and, for all cases, `volumes.csv` (millilitres, background left out).

    Args:
        output_dir: folder of the results; `.partial` below it is emptied case by case.
        class_names: names of the values 0, 1, ...
        pictures: whether to draw the overlays.
    """

    def __init__(self, output_dir: str, class_names: Sequence[str], pictures: bool = True):
        self.dir = Path(output_dir)
        self.class_names = list(class_names)
        self.pictures = pictures
        self.rows: list[dict] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_cases)
        engine.add_event_handler(Events.COMPLETED, self.summarise)

    def finish_cases(self, engine: Engine) -> None:
        for item in engine.state.output:
            self.finish(Path(item["pred"].meta["filename_or_obj"]))

    def finish(self, source: Path) -> None:
        case = case_name(source)
        partial = self.dir / ".partial" / f"{case}_seg.nii"
        labels = np.asarray(nib.load(partial).dataobj).astype(np.uint8)
        image = nib.load(source)
        header = image.header.copy()
        header.set_data_dtype(np.uint8)
        header["descrip"] = DESCRIPTION
        header["cal_min"], header["cal_max"] = 0, len(self.class_names) - 1
        ready = partial.with_name(f"{case}_seg.nii.gz")
        nib.save(nib.Nifti1Image(labels.reshape(image.shape), image.affine, header), ready)
        os.replace(ready, self.dir / ready.name)
        partial.unlink()
        counts = np.bincount(labels.ravel(), minlength=len(self.class_names))
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        volumes = {f"{name}_ml": round(float(n * voxel_ml), 3) for name, n in zip(self.class_names[1:], counts[1:])}
        self.rows.append({"case": case, **volumes})
        self.write_volumes()
        if self.pictures:
            volume = np.asarray(image.dataobj, dtype=np.float32).reshape(labels.shape)
            overlay(
                volume, {"prediction": labels}, image.affine, self.class_names, self.dir / f"{case}_overlay.png", case
            )

    def write_volumes(self) -> None:
        with whole(self.dir / "volumes.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)

    def summarise(self) -> None:
        shutil.rmtree(self.dir / ".partial")  # with what a killed run may have left in it
        logger.info(f"{len(self.rows)} case(s) segmented: label maps, pictures and volumes.csv in {self.dir}")
