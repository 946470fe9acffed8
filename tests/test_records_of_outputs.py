"""Outputs are known by what they were made with, not by their names; none is an input, none replaces a stranger."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit.data.samples import Samples
from p2pkit.images.outputs import SIDECAR
from p2pkit.inference.files import FileOptions
from p2pkit.inference.translator import load_model
from tests.conftest import REPOSITORY, Call, picture, save, train, untrained_model
from tests.test_translating_files import contents


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", picture(20, 20, number))
    return tmp_path / "in"


def change_source(images: Path) -> None:
    """Other pixels in a file of the same name."""
    save(images / "1.png", picture(20, 20, 9))
    os.utime(images / "1.png", ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        (lambda images, out: (out / "1.png").write_bytes(b""), (), "are made anew: 1 of zero bytes"),
        (lambda images, out: change_source(images), (), "are made anew: 1 of a source that has changed"),
        (lambda images, out: None, ("--seed", 1), "are made anew: 3 with other options"),
        (lambda images, out: None, ("--no-dropout",), "are made anew: 3 with other options"),
        (lambda images, out: shutil.move(images, images.parent / "moved"), (), "are made anew: 3 of another source"),
    ],
    ids=["zero bytes", "source", "seed", "dropout", "moved"],
)
def test_what_is_not_what_it_would_be_is_made_anew(
    change: Callable[[Path, Path], None], arguments: tuple[object, ...], said: str, images: Path, model: Path,
    tmp_path: Path, p2pkit: Call,
) -> None:  # fmt: skip
    out = tmp_path / "o"
    assert p2pkit("translate", model, images, "--out", out).code == 0
    change(images, out)
    images = images if images.exists() else images.parent / "moved"
    assert p2pkit("translate", model, images, "--out", tmp_path / "expected", *arguments).code == 0
    outcome = p2pkit("translate", model, images, "--out", out, *arguments, "--skip-existing")
    assert outcome.code == 0 and said in outcome.err
    assert contents(out) == contents(tmp_path / "expected")
    assert (
        "(3 were there already)" in p2pkit("translate", model, images, "--out", out, *arguments, "--skip-existing").err
    )


def test_outputs_of_another_model_are_made_anew(images: Path, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    (tmp_path / "b").mkdir()
    other = untrained_model(tmp_path / "b" / "model.safetensors", "unet", depth=4, width=5)
    for ending in ("npy", "png"):  # of equal length whatever the model
        arguments = ("--format", ending)
        for each, out in ((model, "o"), (other, "expected")):
            assert p2pkit("translate", each, images, "--out", tmp_path / ending / out, *arguments).code == 0
        command = ("translate", other, images, "--out", tmp_path / ending / "o", *arguments, "--skip-existing")
        outcome = p2pkit(*command)
        assert outcome.code == 0 and "are made anew: 3 of another model" in outcome.err
        assert contents(tmp_path / ending / "o") == contents(tmp_path / ending / "expected")
    # a copy elsewhere is the same model
    copy = Path(shutil.copy(other, tmp_path / "copy.safetensors"))
    assert "(3 were there already)" in p2pkit(command[0], copy, *command[2:]).err


def test_files_of_others_are_never_replaced(images: Path, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    out = tmp_path / "o"
    mine = save(out / "1.png", picture(5, 5, 0)).read_bytes()
    for arguments in ((), ("--skip-existing",)):
        outcome = p2pkit("translate", model, images, "--out", out, *arguments)
        assert outcome.code == 2 and "1 of 3 images could not be translated" in outcome.err
        assert "1.png: its output" in outcome.err and "move it, or choose another --out" in outcome.err
        assert (out / "1.png").read_bytes() == mine and len(contents(out)) == 3
    again = p2pkit("translate", model, images / "0.png", "--out", out)  # its own it may
    assert again.code == 0, again.err


def test_what_was_put_in_the_place_of_an_output_is_known_by_its_bytes(
    images: Path, model: Path, tmp_path: Path, p2pkit: Call
) -> None:
    out = tmp_path / "o"
    command = ("translate", model, images, "--format", "npy", "--out")
    assert p2pkit(*command, out).code == 0
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)  # with times of its own
    expected = contents(out)
    assert "(3 were there already)" in p2pkit(*command, tmp_path / "copy", "--skip-existing").err
    times = (out / "1.npy").stat()
    mine = np.load(out / "1.npy") // 2
    np.save(out / "1.npy", mine)  # of as many bytes
    os.utime(out / "1.npy", ns=(times.st_atime_ns, times.st_mtime_ns))
    for more in (("--skip-existing",), ()):
        outcome = p2pkit(*command, out, *more)
        assert outcome.code == 2 and "1.npy is there already, and p2pkit translate has not written it so" in outcome.err
        assert np.array_equal(np.load(out / "1.npy"), mine)
    assert contents(tmp_path / "copy") == expected


def test_outputs_are_not_trained_on(pairs: Path, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    """Whatever the way in which they came to lie among training images."""
    run = train(p2pkit, recipe, tmp_path / "run")
    before = sources(library.load_data(recipe).train)
    assert p2pkit("translate", run, "--split", "test", "--out", pairs / "train" / "painted").code == 0
    assert p2pkit("translate", run, pairs / "train" / "0.png", "--out", pairs / "train" / "beside.png").code == 0
    save(pairs / "train" / "painted" / "own.png", np.full((24, 48, 3), 7, np.uint8))
    data = library.load_data(recipe)
    assert sources(data.train) == before | {np.full((24, 24, 3), 7, np.uint8).tobytes()}
    assert any("left out: 3 images that p2pkit translate has written (0.png, 1.png, beside.png)" in each
               for each in data.notices)  # fmt: skip
    outcome = p2pkit("translate", run, pairs / "train", "--out", tmp_path / "o")
    assert outcome.code == 0 and len(contents(tmp_path / "o")) == len(before) + 1


def test_a_folder_of_nothing_but_outputs_is_trained_on_and_stated(
    images: Path, model: Path, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    root = tmp_path / "second"
    shutil.copytree(images, root / "target")
    assert p2pkit("translate", model, images, "--out", root / "source").code == 0
    chosen = {"data": {"name": "paired_folders", "root": str(root)}, "transform": {}}
    data = library.load_data(recipe, chosen)
    expected = {np.asarray(Image.open(root / "source" / f"{number}.png")).tobytes() for number in range(3)}
    assert sources(data.train) == expected
    stated = f"{root}/source: all 3 images are translations, as p2pkit translate has written them"
    assert stated in data.notices and not any("target: all" in notice for notice in data.notices)
    # to measure them is what they are there for; but which are meant must be plain
    command = ("evaluate", root / "source", root / "target", "--metrics", "mae")
    assert p2pkit(*command).code == 0
    save(root / "source" / "mine.png", picture(20, 20, 1))
    assert "3 of its images p2pkit translate has written, the others not" in p2pkit(*command).err


def sources(samples: Samples) -> set[bytes]:
    return {samples[index].source.tobytes() for index in range(len(samples))}


def test_lines_that_a_kill_has_torn_are_of_one_output(images: Path, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    out = tmp_path / "o"
    command = ("translate", model, images, "--out", out)
    assert p2pkit(*command).code == 0
    expected, sidecar = contents(out), out / SIDECAR
    whole = sidecar.read_text().splitlines(keepends=True)
    # killed once the last output was in place, and before its line was; then while the line was written
    for left in (whole[:-1], [*whole[:-1], whole[-1][:40]]):
        sidecar.write_text("".join(left))
        outcome = p2pkit(*command, "--skip-existing")
        assert outcome.code == 0 and "are made anew: 1 not finished" in outcome.err
        assert "(2 were there already)" in outcome.err and contents(out) == expected
        assert "(3 were there already)" in p2pkit(*command, "--skip-existing").err


def test_a_killed_command_goes_on_to_the_same_bytes(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    for index in range(40):
        save(tmp_path / "in" / f"{index:02}.png", picture(100, 100, index))
    out = tmp_path / "o"
    command = ["translate", str(model), str(tmp_path / "in"), "--out", str(out), "--device", "cpu"]
    running = subprocess.Popen([sys.executable, "-m", "p2pkit", *command], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("[0-9]*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    running.wait()
    left = [file for file in out.iterdir() if file.name.startswith(".") and file.name != SIDECAR]
    assert 3 <= len(list(out.glob("[0-9]*"))) < 40
    outcome = p2pkit(*command, "--skip-existing")
    assert outcome.code == 0, outcome.err
    assert not any(file.exists() for file in left)  # what it was about to write
    assert p2pkit(*command[:4], tmp_path / "again", *command[5:]).code == 0
    assert contents(out) == contents(tmp_path / "again")


@pytest.mark.parametrize("place", ["in", "in/out", "link/out", "in/out/deeper"])
def test_outputs_do_not_go_where_inputs_are(
    place: str, images: Path, model: Path, tmp_path: Path, p2pkit: Call
) -> None:
    (tmp_path / "link").symlink_to(images)
    before = contents(images)
    outcome = p2pkit("translate", model, images, "--out", tmp_path / place)
    assert outcome.code == 2 and "it is in the input folder" in outcome.err and "Traceback" not in outcome.err
    assert contents(images) == before


def test_outputs_among_inputs_are_left_out(images: Path, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    assert p2pkit("translate", model, images / "0.png", "--out", images / "made").code == 0
    assert p2pkit("translate", model, images / "0.png", "--out", images / "beside.png").code == 0
    outcome = p2pkit("translate", model, images, "--out", tmp_path / "o")
    assert (
        outcome.code == 0 and "left out: 2 images that p2pkit translate has written (0.png, beside.png)" in outcome.err
    )
    assert sorted(contents(tmp_path / "o")) == ["0.png", "1.png", "2.png"]
    # a folder of nothing else is meant, and so is a file that is named
    for given, names in ((images / "made", ["0.png"]), (images / "beside.png", ["beside.png"])):
        outcome = p2pkit("translate", model, given, "--out", tmp_path / given.stem)
        assert outcome.code == 0 and "NOTICE" not in outcome.err
        assert sorted(contents(tmp_path / given.stem)) == names
    # what has been put in the place of an output is somebody's own
    save(images / "beside.png", picture(31, 17, 3))
    assert p2pkit("translate", model, images, "--out", tmp_path / "again").code == 0
    assert sorted(contents(tmp_path / "again")) == ["0.png", "1.png", "2.png", "beside.png"]


def test_a_name_of_an_image_makes_that_image(images: Path, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    assert p2pkit("translate", model, images / "0.png", "--out", tmp_path / "o").code == 0
    for name in ("x.png", "new/x.PNG", "x.npy", "x.tif"):
        file = tmp_path / name
        for _ in range(2):  # its own it may replace
            outcome = p2pkit("translate", model, images / "0.png", "--out", file)
            assert outcome.code == 0, outcome.err
        assert file.is_file()
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "o" / "0.png").read_bytes()
    assert np.array_equal(np.load(tmp_path / "x.npy"), np.asarray(Image.open(tmp_path / "x.png")))
    assert p2pkit("translate", model, images / "0.png", "--out", tmp_path / "t.tif", "--tile", 16).code == 0
    assert p2pkit("translate", model, images / "0.png", "--out", tmp_path / "s.png", "--samples", 2).code == 0
    assert (tmp_path / "s_0.png").is_file() and (tmp_path / "s_1.png").is_file() and (tmp_path / "t.tif").is_file()
    (tmp_path / "folder.png").mkdir()
    assert p2pkit("translate", model, images, "--out", tmp_path / "folder.png").code == 0
    assert len(contents(tmp_path / "folder.png")) == 3
    # a folder that is there may be called anything, one of several images too, and a number is no ending
    (tmp_path / "v.tga").mkdir()
    for given, out in ((images / "0.png", "v.tga"), (images, "o.exr"), (images / "0.png", "step.1000")):
        assert p2pkit("translate", model, given, "--out", tmp_path / out, "--format", ".png").code == 0
        assert (tmp_path / out / "0.png").read_bytes() == (tmp_path / "o" / "0.png").read_bytes()


@pytest.mark.parametrize(
    ("inputs", "out", "arguments", "said"),
    [
        (["in"], "x.png", (), "this is the name of one image"),
        (["in/0.png", "in/1.png"], "x.png", (), "this is the name of one image"),
        (["in/0.png"], "x.png", ("--format", "tif"), "two formats"),
        (["in/0.png"], "x.jpg", (), "no image format writes '.jpg'"),
        (["in/0.png"], "x.tga", (), "no image format writes '.tga'"),
        (["in/0.png"], "new/x.EXR", (), "no image format writes '.EXR'"),
        (["in/0.png"], "x.png", ("--tile", 16), "tiles are written to TIFF or NPY"),
        (["in"], "o", ("--tile", 16, "--format", "png"), "tiles are written to TIFF or NPY"),
        (["in/0.png"], "in/0.png", (), "would replace the source"),
        (["in/0.png"], "in/1.png", (), "p2pkit translate has not written it so"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_written_are_refused(
    inputs: list[str], out: str, arguments: tuple[object, ...], said: str, images: Path, model: Path, tmp_path: Path,
    p2pkit: Call,
) -> None:  # fmt: skip
    before = contents(tmp_path)
    outcome = p2pkit("translate", model, *(tmp_path / each for each in inputs), "--out", tmp_path / out, *arguments)
    assert outcome.code == 2 and said in outcome.err and "Traceback" not in outcome.err
    assert contents(tmp_path) == before and not (tmp_path / "x.png").exists()


def test_several_may_write_to_one_folder(images: Path, model: Path, tmp_path: Path) -> None:
    translators = [load_model(model, "cpu") for _ in range(2)]
    for number in range(2):
        report = translators[number].files([images / f"{number}.png"], tmp_path / "o")
        assert report.done == 1
    report = translators[0].files([images], tmp_path / "o", FileOptions(skip_existing=True))
    assert (report.done, report.skipped, report.failures) == (1, 2, [])
