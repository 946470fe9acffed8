"""Files and folders through a model: in any company the same, whatever is wrong with some of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from p2pkit.errors import P2PKitError
from p2pkit.images.outputs import SIDECAR
from p2pkit.inference.files import FileOptions
from p2pkit.inference.model_file import read_header
from p2pkit.inference.prefetch import Pass, translated
from p2pkit.inference.translator import Translator, load_model
from tests.conftest import REPOSITORY, Call, picture, save


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but what is recorded of them."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != SIDECAR)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_an_image_is_the_same_in_any_company(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    for number in range(8):
        save(tmp_path / "in" / f"{number}.png", picture(48, 40 + 20 * (number == 5), number))
    for out, inputs, size in (("alone", "in/3.png", 1), ("one", "in", 1), ("eight", "in", 8)):
        arguments = ("--out", tmp_path / out, "--batch-size", size, "--device", "cpu", "--seed", 4)
        assert p2pkit("translate", model, tmp_path / inputs, *arguments).code == 0
    report = load_model(model, "cpu").files([tmp_path / "in"], tmp_path / "python", FileOptions(seed=4, batch_size=3))
    assert report.done == 8
    assert contents(tmp_path / "one") == contents(tmp_path / "eight") == contents(tmp_path / "python")
    assert contents(tmp_path / "alone")["3.png"] == contents(tmp_path / "one")["3.png"]


def test_a_wide_network_gives_the_same_floats_in_any_batch(model: Path) -> None:
    # torch's convolutions differ in their last bits from batch to batch, for this network among others
    torch.manual_seed(0)
    options = {"depth": 5, "width": 48, "upsampling": "resize"}
    generator = library_unet(**options)
    translator = Translator(generator, read_header(model), read_header(model).policy)
    images = torch.rand(8, 3, 64, 96) * 2 - 1
    together = translator(images, seed=1)
    for index in range(8):
        assert torch.equal(together[index], translator(images[index], seed=1))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Meeting(torch.nn.Conv2d):
    """Images of at most ``alone`` rows wait for another one; each tells how many threads compute it."""

    meeting: ClassVar = threading.Barrier(3)
    computed_by: ClassVar = deque[tuple[int, int]]()

    def __init__(self, alone: int) -> None:
        super().__init__(3, 3, 1)
        self.alone, self.smallest_size, self.size_multiple = alone, 1, 1
        self.computed_by.clear()

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        if source.shape[2] <= self.alone:
            self.meeting.wait(60)
        self.computed_by.append((source.shape[2], torch.get_num_threads()))
        return super().forward(source)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("samples", [1, 2])
def test_small_images_go_through_a_cpu_at_once_and_large_ones_by_all_threads(
    samples: int, model: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(3)
    generator = Meeting(alone=40)
    for number, side in enumerate((40,) * 6 + (400, 380) + (40,) * 3):
        save(tmp_path / "in" / f"{number:02}.png", picture(side, side, number))
    header = read_header(model).model_copy(update={"resize": None})
    translator = Translator(generator, header, header.policy)
    report = translator.files([tmp_path / "in"], tmp_path / "o", FileOptions(samples=samples, batch_size=4))
    assert report.done == 11
    shared = [(400, 3)] * samples + [(380, 3)] * samples
    assert list(generator.computed_by) == [(40, 1)] * 6 * samples + shared + [(40, 1)] * 3 * samples
    assert torch.get_num_threads() == 3
    generator.alone = 0
    for number in range(11):
        expected = translator(tmp_path / "in" / f"{number:02}.png")
        for ending in [".png"] if samples == 1 else ["_0.png", "_1.png"]:
            with Image.open(tmp_path / "o" / f"{number:02}{ending}") as written:
                assert np.array_equal(np.asarray(written), np.asarray(expected))
    generator.computed_by.clear()
    generator.size_multiple = 400  # to which small ones are padded, too
    translator.files([tmp_path / "in"], tmp_path / "padded", FileOptions())
    assert list(generator.computed_by) == [(400, 3)] * 11


class Keeping(torch.nn.Conv2d):
    """Holds what cannot be copied, and keeps something from one line to the next."""

    def __init__(self) -> None:
        super().__init__(3, 3, 1)
        self.lock, self.kept = threading.Lock(), {}  # type: ignore[var-annotated]

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        self.kept["source"] = source
        time.sleep(0.01)
        return super().forward(self.kept["source"])


def hooked_unet() -> torch.nn.Module:
    from p2pkit.components.catalogue import create

    given = {"backbone": "resnet18", "timm": {"feature_cls": "hook"}}
    generator: torch.nn.Module = create("generators", "timm_unet", source_channels=3, target_channels=3, **given)
    return generator


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("made", [Keeping, hooked_unet])
def test_what_a_network_keeps_within_a_call_is_not_mixed_up(made: Callable[[], torch.nn.Module], model: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(4)
    translator = Translator(made(), read_header(model), read_header(model).policy)
    sources = [torch.rand(3, 64, 64) * 2 - 1 for _ in range(16)]
    outputs = dict(translated(translator, (Pass(number, [source], 7) for number, source in enumerate(sources))))
    torch.set_num_threads(1)
    assert [*outputs] == [*range(16)]
    for number, source in enumerate(sources):
        assert (outputs[number][0] - translator(source, 7)).abs().max() < 1e-5


@pytest.mark.usefixtures("threads")
def test_floats_of_small_images_do_not_depend_on_the_number_of_threads(model: Path) -> None:
    torch.manual_seed(0)
    generator = library_unet(depth=6, width=16)
    translator = Translator(generator, read_header(model), read_header(model).policy)
    sources = [torch.rand(3, 64, 64) * 2 - 1 for _ in range(5)]
    outputs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        made = list(translated(translator, (Pass(number, [source], 7) for number, source in enumerate(sources))))
        assert [number for number, _ in made] == list(range(5))
        outputs.append(torch.stack([output for _, (output,) in made]))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def library_unet(**parameters: object) -> torch.nn.Module:
    from p2pkit.components.catalogue import create

    generator: torch.nn.Module = create("generators", "unet", source_channels=3, target_channels=3, **parameters)
    return generator


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (301, 417), (4096, 64)])
@pytest.mark.parametrize("tiles", [(), ("--tile", 256)])
def test_every_size_comes_back(
    size: tuple[int, int], tiles: tuple[object, ...], model: Path, tmp_path: Path, p2pkit: Call
) -> None:
    Image.fromarray(picture(*size, 0)).save(tmp_path / "a.png")
    outcome = p2pkit("translate", model, tmp_path / "a.png", "--out", tmp_path / "o", *tiles)
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "o" / ("a.tif" if tiles else "a.png")) as written:
        assert (written.height, written.width) == size


@pytest.mark.parametrize("arguments", [(), ("--tile", 32), ("--batch-size", 4)])
def test_bad_files_are_named_and_the_rest_is_done(
    arguments: tuple[object, ...], model: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "z.png", "good\n🎨.png"):
        save(folder / name, picture(40, 40, len(name)))
    monkeypatch.setenv("P2PKIT_LIMITS", "image_bytes=20000")
    monkeypatch.setattr("p2pkit.images.plausible.RATIO", 1)
    save(folder / "bomb.png", picture(200, 200, 0))
    save(folder / "gray.png", picture(20, 20, 2, channels=1))
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-200])
    (folder / "nothing.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "forged\n  b.png: all is well\x1b[2K.png").write_text("no image")
    (folder / "undecodable\udcff.png").write_text("no image")
    outcome = p2pkit("translate", model, folder, "--out", tmp_path / "o", *arguments)
    assert outcome.code == 2 and "Traceback" not in outcome.err and "\x1b" not in outcome.err
    listed = {line.split("/")[-1].split(": ")[0]: line for line in outcome.err.splitlines() if line.startswith("  /")}
    for name, cause in {
        "bomb.png": "more pixels than are plausible", "gray.png": "1 channel", "cut.png": "damaged or incomplete",
        "nothing.png": "not an image", "text.png": "not an image", "forged\\n  b.png": "not an image",
        "undecodable\\udcff.png": "not an image",
    }.items():  # fmt: skip
        assert cause in listed.pop(name)
    assert not listed
    ending = ".tif" if "--tile" in arguments else ".png"
    assert sorted(contents(tmp_path / "o")) == [f"a{ending}", f"good\n🎨{ending}", f"z{ending}"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs another account to be")
def test_a_file_that_may_not_be_read_is_named(model: Path, tmp_path: Path) -> None:
    secret, open_to_all = (save(tmp_path / "in" / name, picture(20, 20, 0)) for name in ("a.png", "b.png"))
    secret.chmod(0)
    translator = load_model(model, "cpu")
    (tmp_path / "o").mkdir(mode=0o777)
    (tmp_path / "o").chmod(0o777)
    folders = [folder for folder in tmp_path.parents if folder.stat().st_uid == os.geteuid()] + [tmp_path]
    modes = {folder: folder.stat().st_mode for folder in folders}
    try:
        for folder in folders:
            folder.chmod(modes[folder] | 0o011)
        os.seteuid(65534)
        report = translator.files([secret, open_to_all], tmp_path / "o")
    finally:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert report.done == 1
    assert len(report.failures) == 1 and "a.png: reading it is not permitted" in report.failures[0]


def test_what_is_there_is_left_alone(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", picture(20, 20, number))
    out = tmp_path / "o"
    arguments = ("translate", model, tmp_path / "in", "--out", out, "--samples", 2, "--skip-existing")
    assert p2pkit(*arguments).code == 0
    whole = contents(out)
    (out / "1_1.png").unlink()
    (out / "0_0.png").write_bytes(b"mine")
    outcome = p2pkit(*arguments)
    assert outcome.code == 2 and "(1 was there already)" in outcome.err  # what is mine is neither taken nor replaced
    assert "0.png: its output" in outcome.err and "p2pkit translate has not written it so" in outcome.err
    assert contents(out) == {**whole, "0_0.png": b"mine"}


@pytest.mark.parametrize(
    ("number", "code", "arguments"),
    [(signal.SIGINT, 130, []), (signal.SIGTERM, 143, ["--tile", "64", "--norm", "running"])],
)
def test_an_interruption_leaves_whole_files_and_skip_existing_goes_on(
    number: int, code: int, arguments: list[str], model: Path, tmp_path: Path, p2pkit: Call
) -> None:
    count, out = 40, tmp_path / "o"
    for index in range(count):
        save(tmp_path / "in" / f"{index:02}.png", picture(100, 100, index))
    command = ["translate", str(model), str(tmp_path / "in"), "--out", str(out), "--device", "cpu", *arguments]
    running = subprocess.Popen(
        [sys.executable, "-m", "p2pkit", *command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("[0-9]*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    _, printed = running.communicate(timeout=60)
    assert running.returncode == code, printed
    assert "--skip-existing" in printed and "Traceback" not in printed
    left = sorted(contents(out))
    assert 3 <= len(left) < count and not [name for name in left if name.startswith(".")]
    assert p2pkit(*command, "--skip-existing").code == 0
    interrupted = contents(out)
    assert p2pkit(*command[:4], tmp_path / "again", *command[5:]).code == 0
    assert interrupted == contents(tmp_path / "again") and len(interrupted) == count


def test_mixed_precision_is_near_and_fp16_is_for_gpus(model: Path, tmp_path: Path, p2pkit: Call) -> None:
    file = save(tmp_path / "a.png", picture(48, 48, 0))
    for precision in ("no", "bf16"):
        arguments = ("--out", tmp_path / precision, "--precision", precision, "--threads", 1, "--device", "cpu")
        threads = torch.get_num_threads()
        try:
            assert p2pkit("translate", model, file, *arguments).code == 0
            assert torch.get_num_threads() == 1
        finally:
            torch.set_num_threads(threads)
    exact, near = (np.asarray(Image.open(tmp_path / name / "a.png")).astype(int) for name in ("no", "bf16"))
    assert 0 < np.abs(exact - near).mean() < 12
    with pytest.raises(P2PKitError, match="for GPUs"):
        load_model(model, "cpu", precision="fp16")
