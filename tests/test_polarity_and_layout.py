"""What files say of their pixels beside the numbers: which is white, how many bits, which means nothing, what layout.

Pixels are compared with the numbers that were written, whichever way a file stores them and whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from p2pkit import load_model
from p2pkit.components.catalogue import create
from p2pkit.data.samples import Samples
from p2pkit.errors import DataError
from p2pkit.images.pixels import StoredPixels, as_indices
from p2pkit.images.reading import image_header, read_image, read_image_bytes
from p2pkit.images.region_writing import written_in_regions
from p2pkit.images.regions import open_regions
from p2pkit.images.writing import write_image
from p2pkit.inference.model_file import write_model
from p2pkit.inference.model_header import ModelHeader
from tests.conftest import Call
from tests.test_formats import values, write_dicom

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
PACKED: list[dict[str, Any]] = [
    {}, {"tile": (16, 16)}, {"rowsperstrip": 5}, {"byteorder": ">"}, {"compression": "zlib"},
    {"compression": "zlib", "predictor": True, "tile": (16, 16)}, {"compression": "lzw"}, {"compression": "packbits"},
    {"compression": "zstd", "tile": (16, 16)},
]  # fmt: skip
NODATA = 42113
ALL = slice(0, 37), slice(0, 41)
PARTS = [[(rows, columns) for columns in (slice(0, 9), slice(9, 41))] for rows in (slice(0, 20), slice(20, 37))]


def read_in_every_way(file: Path) -> Iterator[Any]:
    """The pixels of a file [37, 41, C]: from the file, from bytes, from its regions whole and part by part."""
    yield read_image(file)
    yield read_image_bytes(file.read_bytes(), file.name)
    regions = open_regions(file)
    assert regions.shape == image_header(file) == read_image(file).shape
    yield regions.read(*ALL)
    halves = [
        regions.read(rows, columns) for rows in (slice(0, 20), slice(20, 37)) for columns in (slice(0, 9), slice(9, 41))
    ]
    yield np.concatenate([np.concatenate(halves[:2], axis=1), np.concatenate(halves[2:], axis=1)])


def check(file: Path, expected: Any) -> None:
    """However it is read, a file gives ``expected`` [37, 41, C]."""
    for pixels in read_in_every_way(file):
        assert pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


def inverse(numbers: Any) -> Any:
    """The highest for the lowest number of a type, and so on."""
    return ~numbers


@pytest.mark.parametrize("options", PACKED, ids=str)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_white_is_the_highest_number_of_a_tiff(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    numbers, file = values(dtype, 37, 41), tmp_path / "a.tif"
    tifffile.imwrite(file, numbers, photometric="minisblack", metadata=None, **options)
    check(file, numbers[:, :, None])
    tifffile.imwrite(file, numbers, photometric="miniswhite", metadata=None, **options)
    check(file, inverse(numbers)[:, :, None])
    assert np.array_equal(as_indices(read_image(file))[:, :, 0], numbers)  # labels are the numbers that are stored


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_depths_that_fill_no_bytes_are_neither_scaled_nor_inverted_by_others(bits: int, tmp_path: Path) -> None:
    numbers, file = RANDOM.integers(0, 2**bits, (37, 41)).astype(np.uint16), tmp_path / "a.tif"
    for photometric, expected in (("minisblack", numbers), ("miniswhite", 2**bits - 1 - numbers)):
        tifffile.imwrite(file, numbers, photometric=photometric, bitspersample=bits, metadata=None)
        check(file, expected[:, :, None])
        assert np.array_equal(as_indices(read_image(file))[:, :, 0], numbers)


RANDOM = np.random.default_rng(0)
FEW = {1: 255, 2: 85, 4: 17}


@pytest.mark.parametrize("bits", FEW)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_few_bits_fill_8_and_are_known(bits: int, photometric: str, tmp_path: Path) -> None:
    numbers, file = RANDOM.integers(0, 2**bits, (37, 41)).astype(np.uint8), tmp_path / "a.tif"
    expected = numbers if photometric == "minisblack" else 2**bits - 1 - numbers
    for options in ({}, {"tile": (16, 16)}, {"rowsperstrip": 5}, {"byteorder": ">"}):
        tifffile.imwrite(
            file, numbers.astype(bool) if bits == 1 else numbers, photometric=photometric, bitspersample=bits,
            metadata=None, extratags=[(NODATA, 2, 0, "1", True)], **options,
        )  # fmt: skip
        check(file, (expected * FEW[bits]).astype(np.uint8)[:, :, None])
        for pixels in read_in_every_way(file):
            part = pixels[1:, ::2]
            if isinstance(part, StoredPixels):  # of put together parts nothing is known
                assert np.array_equal(as_indices(part)[:, :, 0], numbers[1:, ::2])
                assert np.array_equal(np.asarray(part == part.nodata)[:, :, 0], numbers[1:, ::2] == 1)
        assert read_image(file).bits == bits


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "tiff_lzw", "packbits"])
def test_faxes(compression: str, tmp_path: Path) -> None:
    white, file = RANDOM.random((37, 41)) < 0.3, tmp_path / "a.tif"
    for photometric in (0, 1):
        Image.fromarray(white).save(file, compression=compression, tiffinfo={262: photometric})
        with tifffile.TiffFile(file) as stored:
            assert stored.pages[0].photometric == photometric
        check(file, white[:, :, None].astype(np.uint8) * np.uint8(255))
        assert np.array_equal(as_indices(read_image(file))[:, :, 0], white if photometric else ~white)


def test_planes_and_pages_are_inverted_and_alpha_is_not(tmp_path: Path) -> None:
    planes, file = values("uint16", 3, 37, 41), tmp_path / "a.tif"
    chunky = np.ascontiguousarray(planes.transpose(1, 2, 0))
    common: dict[str, Any] = {"photometric": "miniswhite", "metadata": None}
    for options in ({}, {"compression": "zlib", "tile": (16, 16)}):
        tifffile.imwrite(file, planes, planarconfig="separate", **common, **options)
        check(file, inverse(chunky))
        tifffile.imwrite(file, chunky, planarconfig="contig", **common, **options)
        check(file, inverse(chunky))
        tifffile.imwrite(file, planes, **common, **options)  # three pages
        check(file, inverse(chunky))
        tifffile.imwrite(
            file, chunky[:, :, :2].copy(), planarconfig="contig", extrasamples=["unassalpha"], **common, **options
        )
        check(file, np.stack([inverse(planes[0]), planes[1]], axis=2))
    tifffile.imwrite(file, values("uint8", 2, 37, 41), **common)
    with tifffile.TiffFile(file) as stored:
        check(file, inverse(stored.asarray().transpose(1, 2, 0)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_whose_white_is_not_known_are_refused(dtype: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((37, 41), dtype), photometric="miniswhite", metadata=None)
    for read in (read_image, image_header, open_regions):
        with pytest.raises(DataError, match=r"a\.tif: its photometric interpretation is MINISWHITE.*write it as MIN"):
            read(tmp_path / "a.tif")


def test_dicom_that_stores_0_for_white(tmp_path: Path) -> None:
    file = tmp_path / "a.dcm"
    deep, signed = RANDOM.integers(0, 4096, (37, 41)).astype(np.uint16), values("int16", 37, 41)
    shallow = values("uint8", 37, 41)
    for numbers, expected, bits in ((shallow, 255 - shallow, 8), (deep, 4095 - deep, 12), (signed, -1 - signed, 16)):
        for units in ({}, {"RescaleSlope": 1, "RescaleIntercept": 0}):
            options = {"BitsStored": bits, "HighBit": bits - 1, **units}
            write_dicom(file, numbers, **options)
            plain = numbers.astype(np.float32) if units else numbers
            check(file, plain[:, :, None])
            write_dicom(file, numbers, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=7, **options)
            check(file, expected.astype(plain.dtype)[:, :, None])
            pixels = read_image(file)
            assert np.array_equal(as_indices(pixels)[:, :, 0], numbers)
            assert np.array_equal(np.asarray(pixels == pixels.nodata)[:, :, 0], numbers == 7)
    # in units, numbers mean what they are
    write_dicom(file, deep, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1", RescaleSlope=0.5)
    check(file, (deep * 0.5).astype(np.float32)[:, :, None])


def untrained(file: Path, dtype: str) -> Path:
    """The model file of a small generator from gray to gray, of one type of pixels."""
    parameters = {"depth": 3, "width": 4, "dropout": 0.0}
    generator = create("generators", "unet", source_channels=1, target_channels=1, **parameters)
    for value in generator.parameters():
        torch.nn.init.normal_(value, std=0.3, generator=torch.Generator().manual_seed(value.numel()))
    header = ModelHeader(
        generator="unet", parameters=parameters, distribution="p2pkit", distribution_version="0", source_channels=1,
        target_channels=1, source_dtype=dtype, target_dtype=dtype, step=7, target_ending=".tif",
    )  # fmt: skip
    write_model(file, generator.state_dict(), header)
    return file


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [(), ("--tile", 32)], ids=str)
def test_a_translation_is_the_same_however_its_source_is_stored(
    dtype: str, options: tuple[object, ...], p2pkit: Call, tmp_path: Path
) -> None:
    pixels, folder = values(dtype, 40, 48), tmp_path / "in"
    folder.mkdir()
    common: dict[str, Any] = {"metadata": None, "extratags": [(33550, 12, 3, (0.25, 0.25, 0.0), True)]}
    tifffile.imwrite(folder / "black.tif", pixels, photometric="minisblack", **common)
    tifffile.imwrite(folder / "white.tif", inverse(pixels), photometric="miniswhite", **common)
    model, out = untrained(tmp_path / "model.safetensors", dtype), tmp_path / "out"
    outcome = p2pkit("translate", model, folder, "--out", out, *options)
    assert outcome.code == 0, outcome.err
    expected = load_model(model, device="cpu")(pixels, tile=options[1] if options else None)
    for name in ("black.tif", "white.tif"):
        assert np.array_equal(read_image(out / name)[:, :, 0], expected)
        with tifffile.TiffFile(out / name) as made:
            page = made.pages[0]
            assert np.array_equal(page.asarray(), expected) and page.photometric == tifffile.PHOTOMETRIC.MINISBLACK
            assert 33550 in page.tags


def test_a_value_for_no_data_does_not_go_along(tmp_path: Path) -> None:
    pixels, source = values("uint8", 37, 41, 1), tmp_path / "a.tif"
    tifffile.imwrite(source, inverse(pixels[:, :, 0]), photometric="miniswhite", metadata=None,
                     extratags=[(NODATA, 2, 0, "0", True), (34737, 2, 0, "WGS 84|", True)])  # fmt: skip
    write_image(tmp_path / "b.tif", pixels, source)
    with written_in_regions(tmp_path / "c.tif", (37, 41, 1), pixels.dtype, source) as sink:
        sink.write(0, 0, pixels)
    for name in ("b.tif", "c.tif"):
        check(tmp_path / name, pixels)
        assert not isinstance(read_image(tmp_path / name), StoredPixels)
        with tifffile.TiffFile(tmp_path / name) as made:
            assert 34737 in made.pages[0].tags


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        ("uint8", "0", 0), ("uint8", " 7 ", 7), ("int16", "-9999", -9999), ("float32", "-9999", -9999),
        ("float32", "-3.4028234663852886e+38", np.finfo(np.float32).min),
        ("float32", "-3.40282346600000016e+38", np.finfo(np.float32).min),
        ("float32", "-1.7976931348623157e+308", np.finfo(np.float32).min), ("float32", "nan", np.nan),
        ("float32", "0.1", np.float32(0.1)), ("uint16", "-9999", None), ("uint16", "nan", None),
        ("uint16", "nothing", None), ("uint16", "1.5", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}], ids=str)
def test_values_for_no_data_are_those_of_pixels(
    dtype: str, text: str, expected: float | None, options: dict[str, Any], tmp_path: Path
) -> None:
    numbers, file = np.full((37, 41), expected or 0, dtype), tmp_path / "a.tif"
    tifffile.imwrite(file, numbers, metadata=None, extratags=[(NODATA, 2, 0, text, True)], **options)
    for pixels in list(read_in_every_way(file))[:3]:
        if expected is None:
            assert not isinstance(pixels, StoredPixels)
        else:
            assert np.array_equal(pixels, np.full(pixels.shape, pixels.nodata, dtype), equal_nan=dtype == "float32")


def bmp(bits: int, rows: Any, palette: list[int]) -> bytes:
    """A BMP of packed rows [H, bytes] uint8 with a palette of grays."""
    height, size = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -size % 4)))[::-1]
    colours, sizes = b"".join(bytes([shade] * 3 + [0]) for shade in palette), (size * 8 // bits, height)
    head = np.array([40, *sizes], "<i4").tobytes() + np.array([1, bits], "<u2").tobytes()
    head += np.array([0, padded.size, 0, 0, len(palette), 0], "<i4").tobytes() + colours
    return (
        b"BM" + np.array([14 + len(head) + padded.size, 0, 14 + len(head)], "<i4").tobytes() + head + padded.tobytes()
    )


def test_a_bmp_is_unpacked_by_its_bits(tmp_path: Path) -> None:
    file, numbers = tmp_path / "a.bmp", RANDOM.integers(0, 2, (6, 16)).astype(np.uint8)
    for bits, rows, palette, channels in (
        (1, np.packbits(numbers, axis=1), [0, 255], 1), (4, numbers[:, ::2] << 4 | numbers[:, 1::2], [0, 255], 3),
        (8, numbers, [0, 255], 3), (8, numbers * 200, list(range(256)), 1),
        (4, numbers[:, ::2] << 4 | numbers[:, 1::2], list(range(16)), 3),
    ):  # fmt: skip
        file.write_bytes(bmp(bits, rows, palette))
        shades = np.array(palette, np.uint8)[numbers * 200 if len(palette) == 256 else numbers]
        assert np.array_equal(read_image(file), np.repeat(shades[:, :, None], channels, axis=2))
        assert image_header(file) == (6, 16, channels)
        assert getattr(read_image(file), "bits", 0) == (1 if bits == 1 else 0)


def test_few_bits_of_other_formats(tmp_path: Path) -> None:
    yes = RANDOM.random((5, 16)) < 0.5
    Image.fromarray(yes).save(tmp_path / "a.png")
    Image.fromarray(yes).save(tmp_path / "a.bmp")
    (tmp_path / "a.pbm").write_bytes(b"P4 16 5\n" + np.packbits(~yes, axis=1).tobytes())
    np.save(tmp_path / "a.npy", yes)
    for file in tmp_path.iterdir():
        pixels = read_image(file)
        assert pixels.bits == 1 and pixels.dtype == np.uint8 and np.array_equal(pixels[:, :, 0] == 255, yes), file
        assert np.array_equal(as_indices(pixels)[:, :, 0], yes)
    for largest, bits in ((3, 2), (15, 4)):
        numbers = RANDOM.integers(0, largest + 1, (5, 16)).astype(np.uint8)
        (tmp_path / "b.pgm").write_bytes(b"P5 16 5 %d\n" % largest + numbers.tobytes())
        assert read_image(tmp_path / "b.pgm").bits == bits
        assert np.array_equal(as_indices(read_image(tmp_path / "b.pgm"))[:, :, 0], numbers)
    (tmp_path / "b.pgm").write_bytes(b"P5 16 5 100\n" + bytes(80))
    with pytest.raises(DataError, match=r"b\.pgm: a PGM whose values end at 100 is not supported"):
        image_header(tmp_path / "b.pgm")


def test_what_is_computed_of_pixels_is_plain(tmp_path: Path) -> None:
    Image.fromarray(np.eye(20, dtype=bool)).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels[::2].copy().bits == 1
    assert type(pixels // 2) is np.ndarray and type(pixels.max()) is np.uint8 and f"{pixels.max():g}" == "255"


@pytest.mark.parametrize("photometric", ["separated", "cielab", "ycbcr"])
def test_colours_that_are_neither_gray_nor_rgb_are_refused_above_8_bits(photometric: str, tmp_path: Path) -> None:
    channels = 4 if photometric == "separated" else 3
    tifffile.imwrite(tmp_path / "a.tif", values("uint16", 20, 20, channels), photometric=photometric, metadata=None)
    for read in (read_image, image_header):
        with pytest.raises(DataError, match=rf"its pixels are {photometric.upper()} of 16 bits, expected gray or RGB"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (2, 16), (3, 16), (4, 16), (13, 52), (32, 128)])
def test_arrays_whose_channels_come_first_are_refused(channels: int, side: int, tmp_path: Path) -> None:
    array = values("uint8", channels, side + 4, side)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        for read in (read_image, image_header, open_regions):
            with pytest.raises(DataError, match=rf"{name}: .*its channels come first.*moveaxis\(array, 0, -1\)"):
                read(tmp_path / name)
        np.save(tmp_path / "b.npy", np.moveaxis(array, 0, -1))
        assert np.array_equal(read_image(tmp_path / "b.npy"), array.transpose(1, 2, 0))
    model = load_model(untrained(tmp_path / "model.safetensors", "uint8"), device="cpu")
    with pytest.raises(DataError, match=r"the image is an array of shape .*: its channels come first"):
        model(array)
    with pytest.raises(DataError, match=r"give tensor.permute\(2, 0, 1\)"):
        model(torch.from_numpy(array.transpose(1, 2, 0).copy()))
    for given in (array, torch.from_numpy(array.transpose(1, 2, 0).copy())):
        samples = Samples([(given, given)], "data", "train")
        with pytest.raises(DataError, match=r"data: \[0\] of its train set gives as its source .* channels come "):
            samples[0]


SHAPES = [(5, 19, 16), (4, 15, 16), (4, 16, 15), (20, 16, 3), (1, 16, 3), (20, 16), (13, 51, 52), (33, 140, 140)]


@pytest.mark.parametrize("shape", [*SHAPES, (64, 64, 13)])
def test_arrays_that_may_be_as_they_should_are_taken(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = values("uint16", *shape)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_image(tmp_path / "a.npy"), np.atleast_3d(array))
    sample = Samples([(array, array)], "data", "train")[0]
    assert np.array_equal(sample.source, np.atleast_3d(array))


def test_a_batch_of_one_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values("uint8", 1, 20, 16, 3))
    with pytest.raises(DataError, match=r"expected one image, not a batch of one; give that image alone, array\[0\]"):
        read_image(tmp_path / "a.npy")


def test_axes_that_a_tiff_states_are_followed(tmp_path: Path) -> None:
    planes, file = values("uint16", 3, 37, 41), tmp_path / "a.tif"
    for options in ({"imagej": True, "metadata": {"axes": "CYX"}}, {}, {"ome": True, "metadata": {"axes": "CYX"}},
                    {"photometric": "rgb", "planarconfig": "separate"}):  # fmt: skip
        tifffile.imwrite(file, planes, **options)
        check(file, planes.transpose(1, 2, 0))


def profiled(file: Path, icc: bytes, mode: str = "RGB") -> Path:
    Image.fromarray(values("uint8", 16, 16, len(mode)), mode).save(file, icc_profile=icc)
    return file


def test_colour_profiles_are_named_and_pixels_left_as_stored(tmp_path: Path) -> None:
    srgb, lab = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB", "LAB"))
    for ending in ("png", "jpg", "webp", "tif"):
        assert not isinstance(read_image(profiled(tmp_path / f"a.{ending}", srgb)), StoredPixels)
        pixels = read_image(profiled(tmp_path / f"a.{ending}", lab))
        assert pixels.profile == "Lab identity built-in" and not pixels.bits
        assert read_image(profiled(tmp_path / f"a.{ending}", b"damaged")).profile == "a colour profile without a name"
        with Image.open(tmp_path / f"a.{ending}") as image:
            assert np.array_equal(read_image(tmp_path / f"a.{ending}"), np.asarray(image))
    for ending in ("jpg", "tif"):
        assert read_image(profiled(tmp_path / f"a.{ending}", lab, "CMYK")).profile == "CMYK, Lab identity built-in"


@pytest.mark.parametrize("options", [(), ("--tile", 16)], ids=str)
def test_translate_says_that_colour_profiles_are_lost(
    options: tuple[object, ...], model: Path, p2pkit: Call, tmp_path: Path
) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.tif"):
        profiled(tmp_path / "in" / name, lab)
    profiled(tmp_path / "in" / "c.png", b"")
    outcome = p2pkit("translate", model, tmp_path / "in", "--out", tmp_path / "out", *options)
    found = "NOTICE: 2 sources have a colour profile, which their translations do not have: Lab identity built-in (2)."
    assert outcome.code == 0 and found in " ".join(outcome.err.split())
