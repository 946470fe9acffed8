"""Exported folders in a browser: the images of ``translate``, within one level, from the command to the download.

Skipped where Debian's Chromium, Playwright or npm is not there.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_web_page import board, changes, choose, drag, encoded, opened, settled
from web_site import Site, model_of

from p2pkit import load_model
from p2pkit.images.reading import read_image_bytes
from p2pkit.inference.model_header import (
    ClassHeader,
    DrawingHeader,
    EncodingHeader,
    ResizeHeader,
    SideHeader,
)
from p2pkit.networks.fitting import resize
from p2pkit.networks.noise import dropout_mask, normal_noise
from tests.browser import PHONE, browser, needs_browser, new_page
from tests.conftest import Call, picture, untrained_model

__all__ = ["browser"]
pytestmark = [
    needs_browser,
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm here (apt-get install npm)"),
]
LEVEL = {"uint8": 1, "uint16": 257}


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which npm has put the runtime, by the command that the export prints."""
    folder = tmp_path_factory.mktemp("runtime")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "onnxruntime-web"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"npm cannot install onnxruntime-web: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name that it has there
        pass


@contextmanager
def static(folder: Path) -> Iterator[Site]:
    """A folder as any web server serves it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Site(server.server_address[1], None)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def export(program: Call, runtime: Path, tmp_path: Path) -> Callable[..., Path]:
    """Export a model, with the runtime beside it."""

    def made(model: Path | str, *options: Any) -> Path:
        outcome = program("export", model, "--format", "web", "--out", folder := tmp_path / "page", *options)
        assert outcome.code == 0, outcome.err
        (folder / "node_modules").symlink_to(runtime / "node_modules")
        return folder

    return made


def give(page: Any, name: str, data: bytes) -> None:
    """Open a file in the page, and wait for its output."""
    page.set_input_files("input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data})
    settled(page)


def downloaded(page: Any) -> Any:
    """The pixels of the output as it is downloaded."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(".png")
    return read_image_bytes(Path(download.value.path()).read_bytes(), "it")


def assert_same(found: Any, expected: Any) -> None:
    """Equal but for one level (of 256) here and there, and not for want of anything to see."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert expected.std() > 3 * LEVEL[str(expected.dtype)]
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= LEVEL[str(expected.dtype)]


def deep_png(pixels: Any) -> bytes:
    """Pixels [H, W, C] of 16 bits as a PNG, each line by another of its filters."""
    height, width, channels = pixels.shape
    lines = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1).astype(int)
    step, raw = 2 * channels, b""
    for row in range(height):
        above = lines[row - 1] if row else np.zeros_like(lines[0])
        left, corner = (np.concatenate([np.zeros(step, int), each[:-step]]) for each in (lines[row], above))
        guess = left + above - corner
        far = np.stack([abs(guess - each) for each in (left, above, corner)])
        paeth = np.choose(far.argmin(0), [left, above, corner])
        guesses = [0, left, above, (left + above) // 2, paeth]
        raw += bytes([row % 5]) + np.uint8((lines[row] - guesses[row % 5]) % 256).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_facade_is_drawn_and_painted_without_a_server(browser: Any, export: Callable[..., Path]) -> None:
    with static(export("p2pkit:quickstart")) as site:
        page = opened(browser, site)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        changes(page, lambda: page.get_by_role("button", name="Clear").click())
        choose(page, "facade")
        changes(page, lambda: drag(page, 0.1, 0.2, 0.9, 0.95))
        choose(page, "window")
        changes(page, lambda: drag(page, 0.2, 0.3, 0.4, 0.5))
        drawn = board(page).astype(np.uint8)
        assert_same(downloaded(page), load_model("p2pkit:quickstart", "cpu")(drawn))
        assert [url for url in asked if not url.startswith("blob:")] == []  # what is drawn stays here
        assert page.get_by_role("button", name="Another sample").count() == 0
        assert page.get_by_role("link", name="API").count() == 0
        assert page.wrong == []


def test_samples_and_sizes_are_those_of_translate(browser: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    model = model_of(tmp_path / "m.safetensors", resize=ResizeHeader(size=(33, 40)), size=(33, 40))
    translate, photo, small = load_model(model, "cpu"), picture(50, 47, 1), picture(9, 70, 2)
    with static(export(model)) as site:
        page = opened(browser, site, **PHONE, color_scheme="dark")
        give(page, "photo.png", encoded(photo))
        assert_same(downloaded(page), translate(photo))
        changes(page, lambda: page.get_by_role("button", name="Another sample").click())
        assert_same(downloaded(page), translate(photo, seed=1))
        give(page, "small.png", encoded(small))
        assert_same(downloaded(page), translate(small, seed=1))
        jpeg = encoded(photo, "JPEG")
        give(page, "photo.jpg", jpeg)
        found, expected = downloaded(page), translate(read_image_bytes(jpeg, "photo.jpg"), seed=1)
        assert np.abs(found.astype(int) - expected.astype(int)).mean() < 1  # decoders of JPEG differ by a level
        assert page.wrong == []


@pytest.mark.parametrize(
    ("sources", "targets", "header"),
    [
        (1, 1, {"source_dtype": "uint16", "target_dtype": "uint16"}),
        (3, 3, {"source_dtype": "uint16", "target_dtype": "uint16", "source_range": (1000.0, 60000.0)}),
        (3, 1, {"source_dtype": "uint16", "target_reading": SideHeader(ranges=((20.0, 200.0),))}),
        (1, 2, {"source_dtype": "uint16", "source_reading": SideHeader(channels="gray")}),
    ],
)
def test_deep_images_keep_their_depth(
    browser: Any, export: Callable[..., Path], tmp_path: Path, sources: int, targets: int, header: dict[str, Any]
) -> None:
    model = model_of(tmp_path / "m.safetensors", sources, targets, **header)
    channels = 3 if "source_reading" in header else sources
    pixels = picture(24, 30, 3, channels).astype(np.uint16) * 257 + np.arange(30, dtype=np.uint16)[:, None]
    data = deep_png(pixels)
    assert np.array_equal(read_image_bytes(data, "it"), pixels)
    with static(export(model)) as site:
        page = opened(browser, site)
        give(page, "deep.png", data)
        assert_same(downloaded(page), load_model(model, "cpu")(pixels))
        assert page.wrong == []


def test_numbers_of_classes_go_through_a_palette(browser: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    encoding = EncodingHeader(
        name="one_hot", parameters={"classes": 4}, distribution="p2pkit", distribution_version="0"
    )
    model = model_of(tmp_path / "m.safetensors", 1, 3, encoding)
    numbers = (picture(20, 28, 4)[:, :, :1] // 64).astype(np.uint8)
    image = Image.fromarray(numbers[:, :, 0], "P")
    image.putpalette([10, 200, 30, 0, 0, 0, 99, 99, 0, 7, 7, 250])
    image.save(file := tmp_path / "classes.png", bits=2)
    translate = load_model(model, "cpu")
    with static(export(model)) as site:
        page = opened(browser, site)
        give(page, "classes.png", file.read_bytes())
        assert_same(downloaded(page), translate(numbers))
        changes(page, lambda: page.get_by_role("button", name="Back to the drawing").click())
        choose(page, "class 2")
        changes(page, lambda: drag(page, 0.1, 0.1, 0.6, 0.6))
        shown = board(page, 256)[:, :, 0]
        drawn = np.where(shown == shown[128, 128], 2, 0).astype(np.uint8)[:, :, None]
        assert 0.2 < (drawn == 2).mean() < 0.3
        assert_same(downloaded(page), translate(drawn))
        assert page.wrong == []


def test_files_are_read_as_translate_reads_them(browser: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    """Transparent colours, halves, aspects whose sizes round to even, the file of a browser's own decoder."""
    model = model_of(
        tmp_path / "m.safetensors", 3, 3, source_reading=SideHeader(channels="rgb", alpha="white"),
        resize=ResizeHeader(size=(32, 32), keep_aspect=True), size=(32, 32), source_size=(64, 32),
        stored_as="right half",
    )  # fmt: skip
    translate = load_model(model, "cpu")
    photo, wide = picture(64, 65, 1), picture(50, 50, 2)
    alpha = np.dstack([photo, np.arange(64 * 65, dtype=np.uint8).reshape(64, 65, 1)])
    (plain := tmp_path / "plain.png").write_bytes(encoded(photo))
    (half := tmp_path / "half.png").write_bytes(encoded(wide))
    Image.fromarray(photo).save(clear := tmp_path / "clear.png", transparency=tuple(photo[0, 0].tolist()))
    Image.fromarray(photo[:, :, 0]).save(gray := tmp_path / "gray.png")
    (deep := tmp_path / "alpha.png").write_bytes(encoded(alpha))
    with static(export(model)) as site:
        page = opened(browser, site)
        for file in (plain, half, clear, gray, deep):
            give(page, file.name, file.read_bytes())
            assert_same(downloaded(page), np.asarray(translate(file)))
        turned = Image.Exif()
        turned[0x112] = 6
        Image.fromarray(photo).save(sideways := tmp_path / "sideways.png", exif=turned)
        page.set_input_files("input[type=file]", sideways)
        page.get_by_text("save it upright").first.wait_for()
        assert page.wrong == []


def test_a_drawing_is_never_halved(browser: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    classes = tuple(
        ClassHeader(name=name, values=tuple(map(float, colour)))
        for name, colour in (("sky", (0, 0, 99)), ("ground", (90, 200, 9)))
    )
    model = model_of(
        tmp_path / "m.safetensors", drawings={"": DrawingHeader(kind="labels", classes=classes)}, size=(32, 32),
        source_size=(64, 32), stored_as="left half",
    )  # fmt: skip
    with static(export(model, "--no-dropout")) as site:
        page = opened(browser, site)
        changes(page, lambda: drag(page, 0.1, 0.1, 0.6, 0.8))
        drawn = board(page, 32).astype(np.uint8)
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2
        assert_same(downloaded(page), load_model(model, "cpu", dropout=False)(drawn))
        assert page.wrong == []


def test_the_nearest_pixel_is_pytorchs(browser: Any, export: Callable[..., Path]) -> None:
    sizes = [(76, 286), (88, 300), (168, 100), (312, 300), (328, 286), (30, 47)]
    with static(export("p2pkit:quickstart")) as site:
        page = opened(browser, site)
        for found, wanted in sizes:
            line = page.evaluate(
                """async ([found, wanted]) => { const { resized } = await import("/static/resizing.js");
                const values = Float32Array.from({ length: found }, (_, at) => at / found);
                const line = { channels: 1, height: 1, width: found, values };
                return [...resized(line, 1, wanted, "nearest").values]; }""",
                [found, wanted],
            )
            values = (torch.arange(found) / found)[None, None]
            assert torch.equal(torch.tensor(line), resize(values, (1, wanted), "nearest").flatten())


def test_colours_get_the_lightness_of_their_source(browser: Any, export: Callable[..., Path], tmp_path: Path) -> None:
    lightness, colours = SideHeader(channels="lab_L"), SideHeader(channels="lab_ab")
    model = model_of(
        tmp_path / "m.safetensors", 1, 2, source_range=(0.0, 100.0), source_reading=lightness,
        target_range=(-110.0, 110.0), target_reading=colours,
    )  # fmt: skip
    photo = picture(24, 30, 5)
    with static(export(model, "--no-dropout")) as site:
        page = opened(browser, site)
        give(page, "photo.png", encoded(photo))
        assert page.get_by_role("button", name="Another sample").count() == 0
        assert_same(downloaded(page), load_model(model, "cpu", dropout=False)(photo))
        assert page.wrong == []


def test_noise_is_drawn_bit_for_bit(browser: Any, export: Callable[..., Path]) -> None:
    shape, first = (3, 24, 20), (-2, 5)
    origin, seeds = torch.tensor([[0, -1, 3]], dtype=torch.int32), torch.tensor([123456789], dtype=torch.int32)
    with static(export("p2pkit:quickstart")) as site:
        page = opened(browser, site)

        def drawn(**noise: Any) -> Any:
            about = {"channels": 3, "size_divided_by": [2, 2], "dropped": 0.0, "draws": [123456789], **noise}
            values = page.evaluate(
                """async ([about, first]) => { const { drawn } = await import("/static/noise.js");
                return [...drawn(about, 0, [48, 40], first).values]; }""",
                [about, list(first)],
            )
            return torch.tensor(values, dtype=torch.float32).view(1, *shape)

        kept = dropout_mask(0.3, shape, origin, seeds.clone())
        assert torch.equal(drawn(of="dropout", dropped=0.3), kept.float())
        assert torch.equal(drawn(of="spatial"), normal_noise(shape, origin, seeds.clone()))


def test_what_is_wrong_is_said_in_the_page(browser: Any, program: Call, runtime: Path, tmp_path: Path) -> None:
    model, folder = (
        untrained_model(tmp_path / "m.safetensors", "resnet", width=4, blocks=1, dropout=0.0),
        tmp_path / "page",
    )
    outcome = program("export", model, "--format", "web", "--out", folder)
    assert outcome.code == 0 and f"npm install --prefix {folder} onnxruntime-web" in outcome.out + outcome.err
    with static(folder) as site:
        page = new_page(browser)
        page.goto(site.url)
        page.locator("#problem", has_text="npm install onnxruntime-web").wait_for()
        (folder / "node_modules").symlink_to(runtime / "node_modules")
        page = opened(browser, site)
        four = np.dstack([picture(12, 12, 1), np.full((12, 12), 128, np.uint8)])
        for name, data, words in (
            ("four.png", encoded(four), "it has 4 channels; this model takes 3"),
            ("cut.png", encoded(picture(12, 12, 1))[:90], "cut.png"),
        ):
            page.set_input_files("input[type=file]", {"name": name, "mimeType": "image/png", "buffer": data})
            page.get_by_text(words).first.wait_for()
        give(page, "good.png", encoded(picture(12, 12, 2)))
        assert_same(downloaded(page), load_model(model, "cpu")(picture(12, 12, 2)))
