"""Every format of image, written by its own library and read exactly; its header; what cannot be read."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from p2pkit.errors import DataError
from p2pkit.images.discovery import discover
from p2pkit.images.reading import image_header, read_image
from p2pkit.images.writing import write_image

RANDOM = np.random.default_rng(0)
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


def values(dtype: str, *shape: int) -> Any:
    """Random pixels that use all of a type's range, or a good part of it."""
    if dtype.startswith("float"):
        return (RANDOM.standard_normal(shape) * 1000).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def check(file: Path, expected: Any) -> None:
    """Reading gives ``expected`` [H, W, C], in its type; the header knows its shape."""
    pixels = read_image(file)
    assert pixels.shape == expected.shape and pixels.dtype == expected.dtype.newbyteorder("=")
    assert np.array_equal(pixels, expected)
    assert image_header(file) == expected.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 30])
def test_tiffs_of_any_depth_and_channels(dtype: str, channels: int, tmp_path: Path) -> None:
    pixels, file = values(dtype, 37, 41, channels), tmp_path / "a.tif"
    chunky = pixels if channels > 1 else pixels[:, :, 0]
    tifffile.imwrite(file, chunky, photometric="minisblack", planarconfig="contig" if channels > 1 else None)
    check(file, pixels)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tifffile.imwrite(file, planes, photometric="minisblack", planarconfig="separate" if channels > 1 else None)
    check(file, pixels)
    with tifffile.TiffWriter(file) as pages:
        for plane in planes:
            pages.write(plane, metadata=None, photometric="minisblack")
    check(file, pixels)


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": True}, {"tile": (16, 16)}, {"byteorder": ">"}, {"rowsperstrip": 5}, {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)}, {"compression": "lzw", "predictor": True},
        {"compression": "zstd"}, {"compression": "packbits"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiffs_as_they_are_packed(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    pixels, file = values(dtype, 37, 41, 3), tmp_path / "a.tiff"
    tifffile.imwrite(file, pixels, photometric="rgb", **options)
    check(file, pixels)
    file.write_bytes(file.read_bytes()[:-40])
    for read in (read_image, image_header):
        with pytest.raises(DataError, match=r"a\.tiff: the image is incomplete: it should end at byte"):
            read(file)


def test_planes_of_a_stack_are_channels(tmp_path: Path) -> None:
    stack = values("uint16", 3, 2, 6, 7)
    expected = stack.reshape(6, 6, 7).transpose(1, 2, 0)
    for name, options in (("ij.tif", {"imagej": True}), ("a.ome.tif", {"ome": True})):
        tifffile.imwrite(tmp_path / name, stack, metadata={"axes": "ZCYX"}, **options)
        check(tmp_path / name, expected)


def test_pages_of_another_size_are_left_aside(tmp_path: Path) -> None:
    pixels = values("float32", 20, 30, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as pages:
        for page in (pixels[:, :, 0], pixels[::2, ::2, 0]):
            pages.write(page, metadata=None)
    check(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    pixels = values("uint8", 6, 9, 1)
    expected = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels[:, :, 0]).save(expected, exif=exif)  # Pillow knows what it means
    for dtype in ("uint8", "float32"):
        tag = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(tmp_path / "a.tif", pixels[:, :, 0].astype(dtype), extratags=tag, metadata=None)
        check(tmp_path / "a.tif", read_image(expected).astype(dtype))


def test_tiffs_of_pictures_become_gray_or_rgb(tmp_path: Path) -> None:
    colours = Image.fromarray(values("uint8", 20, 30, 3))
    for mode in ("P", "CMYK", "YCbCr", "1"):
        image = colours.convert(mode)
        image.save(tmp_path / "a.tif")
        check(tmp_path / "a.tif", np.atleast_3d(np.asarray(image.convert("L" if mode == "1" else "RGB"))))


def without_imagecodecs(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.modules['imagecodecs'] = None; from p2pkit.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


def test_what_needs_more_libraries_says_which(tmp_path: Path) -> None:
    recipe = '[data]\nname = "paired_folders"\nroot = "{}"\n[generator]\ndepth = 2\nwidth = 2\n'
    for name, dtype in (("deep", "float32"), ("plain", "uint8")):
        for side in ("source", "target"):
            file = tmp_path / name / side / "0.tif"
            file.parent.mkdir(parents=True)
            pixels = np.abs(values(dtype, 16, 16, 3))
            tifffile.imwrite(
                file, pixels / pixels.max() if dtype == "float32" else pixels, compression="lzw", photometric="rgb"
            )
        (tmp_path / f"{name}.toml").write_text(recipe.format(tmp_path / name))
    assert without_imagecodecs("data", "check", tmp_path / "plain.toml").returncode == 0
    checked = without_imagecodecs("data", "check", tmp_path / "deep.toml")
    assert checked.returncode == 2 and "unpacking its LZW compression" in checked.stderr
    assert "pip install 'p2pkit[tiff]'" in checked.stderr


@pytest.mark.parametrize("dtype", [*DTYPES, "int64", ">u2"])
def test_arrays(dtype: str, tmp_path: Path) -> None:
    for shape in ((6, 7), (6, 7, 1), (6, 7, 12)):
        array = values("uint16", *shape).astype(dtype) if dtype == ">u2" else values(dtype, *shape)
        for stored in (array, np.asfortranarray(array)):
            np.save(tmp_path / "a.npy", stored)
            check(tmp_path / "a.npy", np.atleast_3d(array))
        np.savez(tmp_path / "a.npz", array)
        check(tmp_path / "a.npz", np.atleast_3d(array))
        np.savez_compressed(tmp_path / "a.npz", image=array)
        check(tmp_path / "a.npz", np.atleast_3d(array))


def test_arrays_of_yes_and_no_become_black_and_white(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[True, False]]))
    assert read_image(tmp_path / "a.npy").tolist() == [[[255], [0]]]


class Code:
    """Would run on unpickling."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def in_bytes(save: Callable[..., Any], *arrays: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


SMALL = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npy", in_bytes(np.save, np.array([[Code()]])), "never unpickled"),
        ("a.npz", in_bytes(np.savez, np.array([[Code()]])), "never unpickled"),
        ("a.npy", in_bytes(np.save, SMALL)[:-1], "not as long as its shape"),
        ("a.npz", in_bytes(np.savez, SMALL)[:-30], "damaged or incomplete"),
        ("a.npz", in_bytes(np.savez, SMALL, SMALL), "2 arrays .arr_0, arr_1.; expected a single one"),
        ("a.npy", in_bytes(np.save, SMALL[0, 0]), "its shape is"),
        ("a.npy", in_bytes(np.save, SMALL[:0]), "its shape is"),
        ("a.npy", in_bytes(np.save, SMALL.astype(np.complex64)), "complex64"),
        ("a.tif", b"II*\0", "damaged or incomplete"),
        ("a.tif", b"text", "not an image"),
        ("a.npy", b"", "not an image"),
        ("a.nii.gz", gzip.compress(nibabel.Nifti1Image(SMALL, np.eye(4)).to_bytes())[:-9], "damaged or incomplete"),
        ("a.nii", nibabel.Nifti1Image(SMALL, np.eye(4)).to_bytes()[:-9], "damaged or incomplete"),
    ],
    ids=["objects", "zipped objects", "cut array", "cut zip", "two arrays", "a line", "no pixels", "complex", "no page",
         "text", "no bytes", "cut gzip", "cut volume"],
)  # fmt: skip
def test_bad_files_are_named_with_their_cause(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{expected}"):
        read_image(tmp_path / name)


def test_what_unpacks_to_more_than_is_plausible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bomb(tmp_path / "a.tif")
    monkeypatch.setenv("P2PKIT_LIMITS", "image_bytes=65536")
    np.savez_compressed(tmp_path / "a.npz", np.zeros((200, 200)))
    nibabel.Nifti1Image(np.zeros((200, 200)), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    for file in tmp_path.iterdir():
        for read in (read_image, image_header):
            with pytest.raises(DataError, match=rf"{file}: refused, it unpacks to more pixels than are plausible"):
                read(file)


def write_bomb(file: Path) -> None:
    """A TIFF of a few hundred bytes whose tags claim 40,000 x 40,000 pixels."""
    tifffile.imwrite(file, np.zeros((16, 16), np.float32), compression="zlib", metadata=None)
    with tifffile.TiffFile(file, mode="r+b") as opened:
        for name in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            opened.pages[0].tags[name].overwrite(40_000)


@pytest.mark.parametrize("ending", ["webp", "gif", "png"])
def test_moving_pictures_are_refused(ending: str, tmp_path: Path) -> None:
    first, second = (Image.fromarray(values("uint8", 9, 9, 3)) for _ in range(2))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    for read in (read_image, image_header):
        with pytest.raises(DataError, match=r"it holds several pictures"):
            read(tmp_path / f"a.{ending}")
    first.save(tmp_path / f"a.{ending}")
    assert image_header(tmp_path / f"a.{ending}") == read_image(tmp_path / f"a.{ending}").shape == (9, 9, 3)


def write_dicom(file: Path, pixels: Any, **attributes: Any) -> None:
    """A DICOM file of pixels [H, W], or [frames, H, W]."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(file), {}, file_meta=meta, preamble=bytes(128))
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    bits = 8 * pixels.dtype.itemsize
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(file, enforce_file_format=True)


def test_dicom(tmp_path: Path) -> None:
    file = tmp_path / "IM0001"  # scanners give no endings
    for dtype in ("uint8", "uint16", "int16"):
        pixels = values(dtype, 6, 8)
        write_dicom(file, pixels)
        check(file, pixels[:, :, None])
    write_dicom(file, pixels, RescaleSlope=2, RescaleIntercept=-1024)
    check(file, (pixels[:, :, None] * 2.0 - 1024).astype(np.float32))
    frames = values("uint16", 3, 6, 8)
    write_dicom(file, frames)
    check(file, frames.transpose(1, 2, 0))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="IM0001: "):
        read_image(file)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti(kind: Any, tmp_path: Path) -> None:
    for shape in ((6, 8), (6, 8, 5), (6, 8, 5, 2)):
        for dtype in ("uint8", "int16", "float32"):
            array = values(dtype, *shape)
            for file in (tmp_path / "a.nii", tmp_path / "a.nii.gz"):
                kind(array, np.eye(4)).to_filename(file)
                check(file, array.reshape(6, 8, -1))
    scaled = kind(np.ones((6, 8)), np.eye(4), dtype=np.int16)
    scaled.header.set_slope_inter(0.5, 3)
    scaled.to_filename(tmp_path / "a.nii")
    check(tmp_path / "a.nii", np.full((6, 8, 1), 3.5, np.float32))


def test_libraries_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom(tmp_path / "a.dcm", SMALL[:, :, 0])
    nibabel.Nifti1Image(SMALL, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert [file.name for file in discover(tmp_path).files] == ["a.dcm", "a.nii"]
    for file, library in ((tmp_path / "a.dcm", "pydicom"), (tmp_path / "a.nii", "nibabel")):
        monkeypatch.setitem(sys.modules, library, None)
        for read in (read_image, image_header):
            with pytest.raises(DataError, match=rf"{file}: .*{library}.*pip install 'p2pkit\[medical\]'"):
                read(file)


@pytest.mark.parametrize("ending", [".tif", ".npy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_written_is_read_again(ending: str, dtype: str, tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4, 7):
        pixels = values(dtype, 20, 30, channels)
        write_image(tmp_path / f"a{ending}", pixels)
        check(tmp_path / f"a{ending}", pixels)


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {"photometric": "minisblack"}], ids=str)
def test_what_describes_planes_is_not_carried_over(options: dict[str, Any], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values("uint16", 5, 9, 8), metadata={"axes": "ZYX"}, **options)
    pixels = values("uint16", 9, 8, 1)
    write_image(tmp_path / "b.tif", pixels, tmp_path / "a.tif")
    check(tmp_path / "b.tif", pixels)
    with tifffile.TiffFile(tmp_path / "b.tif") as made:
        assert 270 not in made.pages[0].tags


def test_a_header_is_read_without_the_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    pixels = values("float32", 6, 7, 5)
    for name in ("a.tif", "a.npy"):
        write_image(tmp_path / name, pixels)
    np.savez_compressed(tmp_path / "a.npz", pixels)
    monkeypatch.setattr("tifffile.TiffPageSeries.asarray", decode)
    monkeypatch.setattr("numpy.frombuffer", decode)
    assert {image_header(file) for file in tmp_path.iterdir()} == {(6, 7, 5)}
