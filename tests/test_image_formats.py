"""Image formats of plugins: found from scripts, commands and workers; conflicts and failures name who is to blame."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pkit.components.host import configure, manager
from p2pkit.errors import DataError, PluginError
from p2pkit.images.discovery import discover
from p2pkit.images.names import ending, output_ending, without_ending
from p2pkit.images.reading import image_header, read_image, read_image_bytes
from p2pkit.images.regions import open_regions
from p2pkit.images.writing import write_image
from tests.conftest import Call, distribution, picture, save

RAW = """
import numpy as np
import p2pkit

class Raw:
    "Three bytes of shape, then the pixels."
    endings = (".raw", ".raw.bin")

    def read(self, stream):
        shape = tuple(stream.read(3))
        return np.frombuffer(stream.read(), np.uint8).reshape(shape)

    def write(self, stream, pixels):
        stream.write(bytes(pixels.shape) + pixels.tobytes())
{more}

@p2pkit.hookimpl
def register_image_formats(register):
    register("{name}", Raw)
"""
PIXELS = picture(7, 9, seed=0)
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Installs the distribution p2pkit-NAME 0.4 with a format NAME of the module plugin_NAME, for this process."""
    folder = tmp_path / "plugins"

    def plugin(name: str = "raw", more: str = "", code: str = RAW) -> Path:
        distribution(folder, f"p2pkit-{name}", "0.4", {name: f"plugin_{name}"})
        (folder / f"plugin_{name}.py").write_text(code.format(name=name, more=more))
        configure()
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield plugin
    configure()


def test_a_format_of_two_short_methods_is_read_and_written(install: Install, tmp_path: Path) -> None:
    install()
    for name in ("a.raw", "b.RAW.bin"):
        write_image(tmp_path / "images" / name, PIXELS)
        assert np.array_equal(read_image(tmp_path / "images" / name), PIXELS)
        assert image_header(tmp_path / "images" / name) == PIXELS.shape
    assert [file.name for file in discover(tmp_path / "images").files] == ["a.raw", "b.RAW.bin"]
    assert ending(Path("b.RAW.bin")) == ".raw.bin" and without_ending(Path("x/b.RAW.bin")) == Path("x/b")
    assert np.array_equal(read_image_bytes((tmp_path / "images" / "a.raw").read_bytes(), "shard: 1.raw"), PIXELS)
    part = open_regions(tmp_path / "images" / "a.raw").read(slice(1, 3), slice(2, 9))
    assert np.array_equal(part, PIXELS[1:3, 2:9])
    assert output_ending(Path("a.png"), np.dtype("uint8"), 3, ".raw") == ".raw"


def test_gray_without_an_axis_of_channels_gets_one(install: Install, tmp_path: Path) -> None:
    install(more="    def read(self, stream):\n        return np.full((2, 3), 7, np.uint8)")
    (tmp_path / "a.raw").touch()
    assert read_image(tmp_path / "a.raw").tolist() == [[[7]] * 3] * 2


def test_a_script_knows_it_without_the_command_line(install: Install, tmp_path: Path) -> None:
    folder, file = install(), tmp_path / "a.raw"
    write_image(file, PIXELS)
    code = (
        "import pathlib, sys; from p2pkit.images.reading import read_image; sys.path.insert(0, sys.argv[1]); "
        "print(read_image(pathlib.Path(sys.argv[2])).sum())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(file)], capture_output=True, text=True)
    assert done.stdout == f"{PIXELS.sum()}\n", done.stderr


def test_workers_that_are_spawned_have_the_plugins_of_the_command(
    install: Install, tmp_path: Path, recipe: Path, p2pkit: Call
) -> None:
    folder = install()
    install("raw2")  # claims the same ending, so it has to be left out in the workers too
    configure(["raw2"])
    for side in ("source", "target"):
        for index in range(2):
            write_image(tmp_path / "data" / side / f"{index}.raw", picture(24, 24, seed=index))
    settings = (f"data={{name='paired_folders', root='{tmp_path / 'data'}'}}", "loader.workers=1", "train.max_steps=1")
    command = ("run", recipe, "--out", tmp_path / "run", "--device", "cpu")
    multiprocessing.set_start_method("spawn", force=True)
    try:
        options = (part for setting in settings for part in ("--set", setting))
        done = p2pkit("--no-plugin", "raw2", "--plugins-dir", folder, *command, *options)
    finally:
        multiprocessing.set_start_method(None, force=True)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_two_plugins_that_claim_an_ending_are_both_named(
    install: Install, tmp_path: Path, model: Path, p2pkit: Call
) -> None:
    folder = install()
    install("other")
    (tmp_path / "images").mkdir()
    file = save(tmp_path / "images" / "a.png", PIXELS).with_name("b.raw")
    file.touch()
    conflict = (
        "image_formats: the ending '.raw' is offered by p2pkit-other 0.4 and p2pkit-raw 0.4; uninstall one of them"
    )
    for use in (
        read_image,
        image_header,
        lambda file: discover(file.parent),
        lambda file: write_image(file, PIXELS),
    ):
        with pytest.raises(PluginError, match=conflict):
            use(file)
    assert read_image(file.with_name("a.png")).shape == (7, 9, 3)
    command = ("translate", model, tmp_path / "images", "--out", tmp_path / "out")
    refused = p2pkit("--plugins-dir", folder, *command)
    assert refused.code == 2 and conflict in refused.err and "Traceback" not in refused.err
    # one left out, the other reads it: an empty file is damaged
    assert "in read of image format 'raw' of p2pkit-raw 0.4" in p2pkit("--no-plugin", "other", *command).err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "    def read(self, stream):\n        return 1 / 0",
            "damaged or incomplete: ZeroDivisionError: .* in read of ",
        ),
        ("    def read(self, stream):\n        return np.zeros(5)", r"its shape is \(5,\).*, read by the "),
        ("    def read(self, stream):\n        return None", "its pixels are of type object.*, read by the "),
        ("    def recognises(self, head):\n        return head.no", "AttributeError: .* in recognises of "),
    ],
)
def test_what_a_format_does_wrong_names_file_and_distribution(
    more: str, expected: str, install: Install, tmp_path: Path
) -> None:
    install(more=more)
    (tmp_path / "a.raw").touch()
    with pytest.raises(DataError, match=rf"^{tmp_path / 'a.raw'}: .*{expected}image format 'raw' of p2pkit-raw 0\.4$"):
        read_image(tmp_path / "a.raw")


def test_a_region_that_cannot_be_read_names_them_too(install: Install, tmp_path: Path) -> None:
    install(more="    shape = 7, 9, 3\n    def open_regions(self, file):\n        return self")  # read takes no slices
    (tmp_path / "a.raw").touch()
    regions = open_regions(tmp_path / "a.raw")
    assert regions.shape == (7, 9, 3)
    with pytest.raises(
        DataError, match=r"a\.raw: .*damaged.* in open_regions of image format 'raw' of p2pkit-raw 0\.4"
    ):
        regions.read(slice(0, 1), slice(0, 1))


def test_what_a_format_cannot_write_names_file_and_distribution(install: Install, tmp_path: Path) -> None:
    install(more="    def holds(self, dtype, channels):\n        return channels < 9")
    with pytest.raises(
        DataError, match=r"a\.raw: ValueError: bytes must be in .* in write of image format 'raw' of p2pkit-raw"
    ):
        write_image(tmp_path / "a.raw", np.zeros((300, 2, 1), np.uint8))
    with pytest.raises(DataError, match=r"a\.raw: a RAW cannot hold 9 channels of uint8"):
        write_image(tmp_path / "a.raw", np.zeros((2, 2, 9), np.uint8))
    assert not list(tmp_path.glob("*.raw*"))
    assert output_ending(Path("a.png"), np.dtype("uint8"), 9, ".raw") == ".tif"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("    def __init__(self, depth):\n        pass", "'depth'"),
        ("    endings = ('raw',)", r"TypeError: its endings are \('raw',\)"),
        ("    read = None", r"TypeError: it has no read\(stream\)"),
    ],
)
def test_a_format_that_cannot_be_used_is_missed_where_its_files_are(
    more: str, expected: str, install: Install, tmp_path: Path
) -> None:
    install(more=more)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.raw").touch()
    failed = rf"it failed: the image format 'raw' of p2pkit-raw 0\.4 cannot be used: .*{expected}"
    for use in (
        lambda file: read_image(file),
        lambda file: discover(file.parent),
        lambda file: write_image(file, PIXELS),
    ):
        with pytest.raises(DataError, match=failed):
            use(tmp_path / "data" / "a.raw")
    assert read_image(save(tmp_path / "a.png", PIXELS)).shape == (7, 9, 3)


def test_a_hook_that_fails_is_missed_likewise(install: Install, tmp_path: Path) -> None:
    install(code="import p2pkit\n\n@p2pkit.hookimpl\ndef register_image_formats(register):\n    import not_there\n")
    (tmp_path / "a.raw").touch()
    with pytest.raises(DataError, match=r"not an image that can be read\n  .*p2pkit-raw 0\.4\): ModuleNotFoundError"):
        read_image(tmp_path / "a.raw")


def test_an_output_format_that_nothing_writes_is_refused_at_once(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    source = save(tmp_path / "a.png", PIXELS)
    refused = p2pkit("translate", model, source, "--out", tmp_path / "out", "--format", "jpg")
    assert refused.code == 2 and "no image format writes '.jpg'; expected one of" in refused.err
    assert ".npy .png .tif .tiff" in refused.err and not (tmp_path / "out").exists()


def test_formats_are_not_looked_up_for_drawn_data(recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    drawn = ("--set", 'data={name="procedural_facades", size=32, pairs=4, test_pairs=2}')
    asked: list[str] = []

    def registry(host: Any, kind: str) -> Any:
        asked.append(kind)
        return ask(host, kind)

    ask = type(manager()).registry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(manager()), "registry", registry)
        trained = p2pkit("run", recipe, "--out", tmp_path / "run", "--device", "cpu", *drawn)
    assert trained.code == 0, trained.err
    assert list((tmp_path / "run").rglob("*.png")) and "generators" in asked and "image_formats" not in asked


CLAIMING = """
    def header(self, stream):
        return 1 << 30, 1 << 30

    def open_regions(self, file):
        class Regions:
            shape = (1 << 30, 1 << 30, 1)
        return Regions()
"""


def test_what_a_header_claims_is_refused_before_anything_is_read(install: Install, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", PIXELS)
    install(more=CLAIMING)
    (tmp_path / "a.raw").write_bytes(bytes([1, 1, 1, 0]))
    for read in (read_image, image_header, open_regions):
        with pytest.raises(DataError, match=r"a\.raw: refused, it unpacks to more pixels .*--limit image_bytes="):
            read(tmp_path / "a.raw")
