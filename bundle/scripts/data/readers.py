"""The reader of volumes that the configurations name: NIfTI files and DICOM series, behind MONAI's interface."""

from collections.abc import Sequence

import nibabel as nib
from monai.data import NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.utils import ensure_tuple

from scripts.series.index import is_series
from scripts.series.reader import read_series


class VolumeReader(NibabelReader):
    """MONAI's reader of NIfTI files, which also reads the series of a DICOM source, see `scripts.series`.

    Attributes:
        ready: volumes that were read already, by path; each is given out once in place of its file.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ready: dict[str, nib.Nifti1Image] = {}

    def verify_suffix(self, filename: Sequence[str] | str) -> bool:
        names = ensure_tuple(filename)
        return all(name in self.ready or is_series(name) for name in names) or super().verify_suffix(filename)

    def read(self, data: Sequence[str] | str, **kwargs):
        (name,) = names = ensure_tuple(data)
        if name in self.ready:
            image = self.ready.pop(name)
        elif is_series(name):
            image = nib.Nifti1Image(*read_series(name))
        else:
            return super().read(data, **kwargs)
        self.filenames = names
        return correct_nifti_header_if_necessary(image)
