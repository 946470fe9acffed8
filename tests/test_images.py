"""Pixels: read as stored, mapped to [-1, 1] and back, jittered alike, laid out in grids."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from p2pkit.data.augmentation import Augmentation, Tensors
from p2pkit.errors import DataError
from p2pkit.images.pixels import denormalize, normalize
from p2pkit.images.reading import image_header, read_image
from p2pkit.images.writing import write_image
from p2pkit.settings import TransformSettings


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [("L", 1, "uint8"), ("1", 1, "uint8"), ("RGB", 3, "uint8"), ("RGBA", 4, "uint8"), ("LA", 2, "uint8"),
     ("P", 3, "uint8"), ("I;16", 1, "uint16")],
)  # fmt: skip
def test_modes_of_png(mode: str, channels: int, dtype: str, tmp_path: Path) -> None:
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.shape == (5, 7, channels) and pixels.dtype == dtype


def deep_png(pixels: Any) -> bytes:
    """A PNG of pixels [H, W, 2 to 4] uint16, which Pillow does not write."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_all_16_bits_of_colour_are_read(channels: int, tmp_path: Path) -> None:
    pixels, file = np.random.default_rng(0).integers(0, 65536, (5, 7, channels), dtype=np.uint16), tmp_path / "a.png"
    file.write_bytes(deep_png(pixels))
    assert np.array_equal(read_image(file), pixels) and image_header(file) == (5, 7, channels)
    file.write_bytes(deep_png(pixels)[:-40])
    with pytest.raises(DataError, match=r"a\.png: the image cannot be read"):
        image_header(file)


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 4, 3)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (7, 5)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (5, 7, 3)


IMAGES = [
    (suffix, mode)
    for suffix, modes in {
        "png": ["L", "1", "RGB", "RGBA", "LA", "P", "I;16"], "jpg": ["L", "RGB", "CMYK"], "webp": ["RGB", "RGBA"],
        "bmp": ["L", "1", "RGB", "P"], "tif": ["L", "1", "RGB", "RGBA", "I;16", "CMYK"],
    }.items()
    for mode in modes
]  # fmt: skip


def found(read: Callable[[Path], Any], file: Path) -> Any:
    """What reading a file gives, or the message of its failure."""
    try:
        return read(file)
    except DataError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(("suffix", "mode"), IMAGES)
def test_a_header_says_what_reading_gives(suffix: str, mode: str, tmp_path: Path) -> None:
    file, cut = tmp_path / f"a.{suffix}", tmp_path / f"cut.{suffix}"
    for orientation in (1, 3, 6):
        image = Image.new(mode, (70, 50))
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(file, **({} if suffix == "bmp" else {"exif": exif}))
        assert image_header(file) == read_image(file).shape
    content = file.read_bytes()
    for length in (0, 30, len(content) // 2, len(content) - 30):
        cut.write_bytes(content[:length])
        assert found(image_header, cut) == found(lambda cut: read_image(cut).shape, cut)
    cut.write_bytes(content[: len(content) // 2])
    assert isinstance(found(image_header, cut), str)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("length", [100, 10_000])
def test_bytes_behind_an_image_do_no_harm(suffix: str, length: int, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.new("RGB", (7, 5)).save(file)
    file.write_bytes(file.read_bytes() + bytes(length))
    assert image_header(file) == read_image(file).shape


def test_a_header_is_read_without_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    for suffix in ("png", "jpg", "bmp", "tif"):
        Image.new("RGB", (7, 5)).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", decode)
    assert {image_header(file) for file in tmp_path.iterdir()} == {(5, 7, 3)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_value_survives_the_way_there_and_back(dtype: str, tmp_path: Path) -> None:
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 256, 1)
    unit = normalize(levels, "levels")
    assert (unit.min(), unit.max()) == (-1, 1)
    assert np.array_equal(denormalize(unit, levels.dtype), levels)
    write_image(tmp_path / "a.png", levels)
    assert np.array_equal(read_image(tmp_path / "a.png"), levels)


def test_floats_lie_between_0_and_1() -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 2, 3)
    assert np.allclose(denormalize(normalize(values, "x"), values.dtype), values, atol=1e-6)
    for wrong in (values * 2, values - 1):
        with pytest.raises(DataError, match="x: floating-point pixels must lie in"):
            normalize(wrong, "x")


def test_the_pixels_of_a_data_set_are_left_as_they_are() -> None:
    values = np.full((2, 2, 1), 0.25, dtype=np.float32)
    values.flags.writeable = False
    assert normalize(values, "x").tolist() == [[[-0.5, -0.5], [-0.5, -0.5]]]
    assert (values == 0.25).all()


@pytest.mark.parametrize("pixels", [np.zeros((2, 2, 5), np.uint8), np.zeros((2, 2, 3), np.uint16)])
def test_what_no_png_can_hold_is_refused(pixels: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a PNG cannot hold"):
        write_image(tmp_path / "a.png", pixels)
    assert not list(tmp_path.iterdir())


PARSED_TOGETHER = """
import gc, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from p2pkit.images.reading import image_header


class Finalized:  # threads change places where the garbage collector finalizes an object, in the middle of parsing
    def __init__(self):
        self.itself = self

    def __del__(self):
        for _ in range(30):
            pass


def header(depth):
    if depth:
        return header(depth - 1)
    Finalized(), Finalized(), Finalized()
    return image_header(Path(sys.argv[1]))


header(0)  # formats are loaded in one thread
sys.setswitchinterval(1e-6)
gc.set_threshold(5)
with ThreadPoolExecutor(16) as threads:
    print(len(list(threads.map(header, [index % 40 for index in range(3000)]))))
"""


def test_threads_read_headers_of_arrays_at_the_same_time(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((4, 5), np.uint8))
    command = [sys.executable, "-c", PARSED_TOGETHER, str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "3000", done.stderr[-2000:]


def pair(height: int, width: int) -> Tensors:
    rows = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width)[None].expand(height, width)
    image = torch.stack([rows, columns])
    return Tensors(image, -image)


def transform(**settings: Any) -> Augmentation:
    return Augmentation(TransformSettings(**settings), seed=0)


def test_both_images_of_a_pair_are_jittered_alike() -> None:
    jitter = transform(load_size=(40, 30), crop_size=(32, 16), flip=True)
    flipped = set()
    for index in range(20):
        source, target, _ = jitter.train(pair(50, 60), (0, index), "key")
        assert source.shape == (2, 32, 16)
        assert torch.allclose(source, -target, atol=1e-6)
        flipped.add(bool(source[1, 0, 0] > source[1, 0, -1]))
    assert flipped == {True, False}


def test_jitter_is_a_function_of_seed_epoch_and_index() -> None:
    jitter = transform(crop_size=8, flip=True)
    first = jitter.train(pair(50, 60), (3, 7), "key")[0]
    assert torch.equal(first, jitter.train(pair(50, 60), (3, 7), "key")[0])
    assert not torch.equal(first, jitter.train(pair(50, 60), (4, 7), "key")[0])
    assert not torch.equal(first, jitter.train(pair(50, 60), (3, 8), "key")[0])


def test_crops_reach_every_corner() -> None:
    jitter = transform(crop_size=(3, 3))
    seen = {tuple(jitter.train(pair(4, 4), (0, index), "k")[0][:, 0, 0].tolist()) for index in range(60)}
    assert len(seen) == 4


def test_test_pairs_are_resized_to_what_training_sees_and_no_more() -> None:
    assert transform(load_size=40, crop_size=32, flip=True).test(pair(50, 60))[0].shape == (2, 32, 32)
    assert transform(crop_size=32).test(pair(50, 60))[0].shape == (2, 50, 60)
