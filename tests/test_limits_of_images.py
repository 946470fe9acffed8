"""What reading an image may cost: limits that an option raises, errors that pass, memory that is not there."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from p2pkit.errors import DataError, Unavailable
from p2pkit.images.outputs import SIDECAR
from p2pkit.images.reading import image_header, read_image
from p2pkit.images.tiff_stacks import TiffStack
from p2pkit.inference.translator import Translator
from p2pkit.utils import opening
from p2pkit.utils.opening import ReadError
from tests.conftest import Call, save
from tests.hostile.pictures import jpeg, saved
from tests.hostile.scans_and_arrays import dicom, nifti
from tests.hostile.tiffs import bomb
from tests.hostile.translated import translate

FLAT = np.zeros((200, 200, 3), np.uint8)


def _tiff(file: Path) -> None:
    tifffile.imwrite(file, FLAT, compression="zlib", photometric="rgb")


FLAT_FILES: dict[str, Callable[[Path], object]] = {
    "a.png": lambda file: Image.fromarray(FLAT).save(file),
    "a.gif": lambda file: Image.fromarray(FLAT).save(file),
    "a.webp": lambda file: Image.fromarray(FLAT).save(file, lossless=True),
    "a.tif": _tiff,
    "a.npz": lambda file: np.savez_compressed(file, FLAT),
    "a.nii.gz": lambda file: file.write_bytes(gzip.compress(nifti((3, 200, 200, 3, 1, 1, 1, 1), data=FLAT.tobytes()))),
}


@pytest.mark.parametrize("name", FLAT_FILES)
def test_a_message_says_the_option_that_makes_it_work(
    name: str, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    FLAT_FILES[name](tmp_path / name)
    monkeypatch.setenv("P2PKIT_LIMITS", "image_bytes=10kB")
    monkeypatch.setattr("p2pkit.images.plausible.RATIO", 1)
    arguments = translate(tmp_path, tmp_path / name)
    outcome = p2pkit(*arguments)
    assert outcome.code == 2 and "more pixels than are plausible" in outcome.err
    option = re.search(r"p2pkit (--limit image_bytes=\w+) COMMAND", outcome.err)
    assert option
    assert p2pkit(*option[1].split(), *arguments).code == 0


@pytest.mark.parametrize("limit", ["image_pages", "jpeg_scans"])
def test_counts_are_raised_too(limit: str, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ("a.tif" if limit == "image_pages" else "a.jpg")
    if limit == "image_pages":
        tifffile.imwrite(file, np.zeros((3, 16, 16), np.uint8), photometric="minisblack")
    else:
        file.write_bytes(jpeg(64, 64, progressive=True))
    monkeypatch.setenv("P2PKIT_LIMITS", f"{limit}=2")
    arguments = translate(tmp_path, file)
    outcome = p2pkit(*arguments)
    option = re.search(rf"p2pkit (--limit {limit}=\d+) COMMAND", outcome.err)
    assert outcome.code == 2 and option
    assert p2pkit(*option[1].split(), *arguments).code == 0


def test_the_limit_of_pillow_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "a.gif", "a.webp"):
        FLAT_FILES[name](tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), FLAT)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_without_imagecodecs_a_strip_unpacks_to_no_more_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pkit.images.tiff_opening.find_spec", lambda name: None)
    monkeypatch.setenv("P2PKIT_LIMITS", "image_bytes=10MB")
    (tmp_path / "a.tif").write_bytes(bomb(8, zlib.compress(bytes(40_000_000), 9)))
    for read in (read_image, image_header):
        with pytest.raises(DataError, match=r"a\.tif: refused, it unpacks to more pixels than are plausible"):
            read(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(bomb(8, zlib.compress(bytes(range(256)) * 3)))
    assert read_image(tmp_path / "b.tif").ravel().tolist() == list(range(256)) * 3


def test_planes_of_a_packed_stack_are_those_of_its_pages(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (5, 24, 16), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", compression="zlib")
    stack = TiffStack(tmp_path / "a.tif")
    for index in (4, 0, 2):
        assert np.array_equal(stack.plane(index, 2)[:, :, 0], planes[index])


def failing(file: Path, code: int, times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the system refuse to open ``file`` so many times; how often it has been asked."""
    asked, real = [0], os.open

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path) == str(file):
            asked[0] += 1
            if asked[0] <= times:
                raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr(opening, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "open", opened)
    return asked


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.EINTR])
def test_an_error_that_passes_is_no_damage(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "a.png", FLAT)
    asked = failing(file, code, 2, monkeypatch)
    assert np.array_equal(read_image(file), FLAT) and asked == [3]
    failing(file, code, 99, monkeypatch)
    with pytest.raises(ReadError, match=r"a\.png: .*nothing has been changed"):
        image_header(file)


def test_a_file_that_may_not_be_read_is_no_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "a.png", FLAT)
    failing(file, errno.EACCES, 1, monkeypatch)
    with pytest.raises(Unavailable, match=r"a\.png: reading it is not permitted"):
        read_image(file)


def _of_torch(*_: Any) -> torch.Tensor:
    return torch.empty(1 << 46, dtype=torch.uint8)


def _of_numpy(*_: Any) -> torch.Tensor:
    return torch.from_numpy(np.ones(1 << 46, np.uint8))


@pytest.mark.parametrize("take", [_of_torch, _of_numpy])
@pytest.mark.parametrize(("options", "advice"), [((), "--tile 512"), (("--tile", 64), "Lower --tile or --batch-size")])
def test_out_of_memory_at_translation_advises_tiles(
    take: Callable[..., torch.Tensor], options: tuple[object, ...], advice: str, tmp_path: Path, p2pkit: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Translator, "tensor", take)
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    outcome = p2pkit(*translate(tmp_path, tmp_path / "a.png", *options))
    assert outcome.code == 2 and "out of memory" in outcome.err and advice in outcome.err
    assert "Traceback" not in outcome.err and "loader.batch_size" not in outcome.err
    assert not list((tmp_path / "out").glob(".*.part"))


def test_what_another_process_writes_is_not_taken_for_a_leftover(tmp_path: Path, p2pkit: Call) -> None:
    out, left = tmp_path / "out", tmp_path / "out" / ".a.png.77.part"
    out.mkdir()
    (out / SIDECAR).write_text(json.dumps({"name": "a.png"}) + "\n")
    left.write_bytes(bytes(9))
    (tmp_path / "b.png").write_bytes(saved("PNG"))
    arguments = translate(tmp_path, tmp_path / "b.png")
    with (out / SIDECAR).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        assert p2pkit(*arguments).code == 0 and left.exists()
    assert p2pkit(*arguments).code == 0 and not left.exists()


def test_frames_of_dicom_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(4, 4, frames=3, pixels=bytes(range(48))))
    assert read_image(tmp_path / "a.dcm").shape == (4, 4, 3)
