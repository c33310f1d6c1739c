"""Pixels have the values that the headers promise, however they are stored."""

import numpy as np
import pytest
from series_samples import as_enhanced, edit, make_series, same_place, slices_of

from scripts.core.errors import UserError
from scripts.series.pixels import coded_size
from scripts.series.reader import read_series

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
SYNTAXES = {"deflated": "1.2.840.10008.1.2.1.99", "RLE": "1.2.840.10008.1.2.5", "big endian": "1.2.840.10008.1.2.2"}
OF_GDCM = ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"]


def store_as(file, syntax: str) -> None:
    """Stores a file in another transfer syntax, by pydicom or by gdcm."""
    if syntax in SYNTAXES:
        found = pydicom.dcmread(file)
        if syntax == "RLE":
            found.compress(SYNTAXES[syntax], generate_instance_uid=False)
        elif syntax == "big endian":
            found.PixelData = found.pixel_array.astype(">u2").tobytes()
            found.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        else:
            found.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        pydicom.dcmwrite(file, found, little_endian=syntax != "big endian", implicit_vr=False, force_encoding=True)
        return
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(file))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(file))
    assert writer.Write()


@pytest.mark.parametrize("syntax", [*SYNTAXES, *OF_GDCM])
def test_every_syntax_gives_the_same_values(tmp_path, syntax):
    volume, affine = make_series(tmp_path)
    for file in slices_of(tmp_path):
        store_as(file, syntax)
    assert same_place(volume, affine, *read_series(tmp_path))


def test_slope_and_intercept_of_each_slice_are_applied(tmp_path):
    volume, affine = make_series(tmp_path)
    for number, file in enumerate(slices_of(tmp_path)):
        edit(file, RescaleSlope=0.5 + number, RescaleIntercept=-number)
    expected = volume * (0.5 + np.arange(volume.shape[2])) - np.arange(volume.shape[2])
    found, placed = read_series(tmp_path)
    assert found.dtype == np.float32 and same_place(expected.astype(np.float32), affine, found, placed)


def test_a_slice_without_a_slope_among_others_keeps_its_values(tmp_path):
    volume, affine = make_series(tmp_path)
    edit(slices_of(tmp_path)[3], RescaleSlope=0.25, RescaleIntercept=0)
    expected = volume.astype(np.float32)
    expected[:, :, 3] /= 4
    assert same_place(expected, affine, *read_series(tmp_path))


def test_frames_of_an_enhanced_file_have_slopes_of_their_own(tmp_path):
    volume, affine = make_series(tmp_path / "scan")
    slopes = [1.5 + number for number in range(volume.shape[2])]
    file = as_enhanced(tmp_path / "scan", tmp_path / "enhanced" / "one", slopes=slopes)
    assert same_place((volume * np.array(slopes)).astype(np.float32), affine, *read_series(file.parent))


def test_negative_values_are_read(tmp_path):
    volume, affine = make_series(tmp_path)
    signed = volume.astype(int) - 2000
    for number, file in enumerate(slices_of(tmp_path)):
        found = pydicom.dcmread(file)
        found.PixelRepresentation = 1
        found.PixelData = signed[:, :, number].T.astype("<i2").tobytes()
        found.save_as(file)
    assert same_place(signed, affine, *read_series(tmp_path))


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        read_series(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pixels_that_are_cut_off_are_named(tmp_path):
    make_series(tmp_path)
    file = slices_of(tmp_path)[3]
    file.write_bytes(file.read_bytes()[:-40])
    assert str(file) in refusal(tmp_path) and "its pixels are not readable" in refusal(tmp_path)


def test_a_table_of_values_is_refused(tmp_path):
    make_series(tmp_path)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [1, 0, 16], b"\0\0"
    edit(slices_of(tmp_path)[0], ModalityLUTSequence=[table])
    assert "found a table of values (Modality LUT)" in refusal(tmp_path)


@pytest.mark.parametrize("syntax", OF_GDCM)
def test_a_compressed_image_of_another_size_is_refused_before_it_is_unpacked(tmp_path, syntax):
    make_series(tmp_path)
    file = slices_of(tmp_path)[2]
    store_as(file, syntax)
    edit(file, Rows=20)
    for other in slices_of(tmp_path):
        if other != file:
            found = pydicom.dcmread(other)
            found.Rows, found.PixelData = 20, bytes(20 * found.Columns * 2)
            found.save_as(other)
    assert "the compressed image has 18 x 14 pixels, its header 20 x 14" in refusal(tmp_path)


def test_the_size_in_a_compressed_image_is_read():
    assert coded_size(bytes.fromhex("ffd8 ffe00004abcd fff7000b0c0012000e 01")) == (18, 14)
    assert coded_size(b"RLE or anything else") is None
    assert coded_size(b"\xff\xd8\xff") is None


def test_an_image_of_too_many_voxels_is_refused(tmp_path):
    make_series(tmp_path)
    for file in slices_of(tmp_path):
        edit(file, Rows=2**14, Columns=2**14)
    assert "16384 x 16384 x 10 voxels, expected" in refusal(tmp_path)
