"""What a person sees of long work: the line on a terminal, plain lines, the losses in short, the time left."""

from __future__ import annotations

import os
import re
import select
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pkit.training.metrics_log import short_losses
from p2pkit.utils import progress
from p2pkit.utils.progress import Progress, shortened, three_digits
from tests.conftest import Call

NOTES = ("D 0.69", "G 0.76", "L1 28.3", "epoch 3")


class Clock(SimpleNamespace):
    """Stands for the module time; its hand is set."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    hand = Clock()
    monkeypatch.setattr(progress, "time", hand)
    return hand


def training(clock: Clock, done: int, total: int, seconds: float, later: float = 0.0) -> Progress:
    shown = Progress("training", total, "step", shown=False, later=later)
    with shown:
        clock.now += seconds
        shown.advance(done, NOTES)
    return shown


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (120, f"training {'━' * 16} 1200/2800  15.2 step/s  1:45 left  D 0.69  G 0.76  L1 28.3  epoch 3"),
        (80, f"training {'━' * 8} 1200/2800  15.2/s  1:45 left  D 0.69  G 0.76  L1 28.3  epoch 3"),
        (78, f"training {'━' * 6} 1200/2800  15.2/s  1:45 left  D 0.69  G 0.76  L1 28.3  epoch 3"),
        (67, f"training {'━' * 4} 1200/2800  15.2/s  1:45 left  D 0.69  G 0.76  L1 28.3"),
        (66, f"training {'━' * 12} 1200/2800  15.2/s  1:45 left  D 0.69  G 0.76"),
        (40, "training 1200/2800  1:45 left  D 0.69"),
        (30, "training 1200/2800  1:45 left"),
        (20, "training 1200/2800"),
        (12, "1200/2800"),
    ],
)
def test_the_line_has_the_most_telling_items_that_fit(width: int, expected: str, clock: Clock) -> None:
    assert training(clock, 1200, 2800, seconds=79).line(width) == expected


def test_a_long_run_fits_80_columns_and_no_width_cuts_an_item(clock: Clock) -> None:
    shown = training(clock, 12345, 80000, seconds=900)
    assert "12345/80000  13.7/s  1:22:12 left  D 0.69  G 0.76  L1 28.3" in shown.line(80)
    whole = {"training", "12345/80000", "13.7/s", "13.7 step/s", "1:22:12 left", *NOTES}
    for width in range(11, 130):
        line = shown.line(width)
        assert len(line) <= width
        title, _, rest = line.replace("━", "").rpartition("12345")
        assert set(re.split(r" {2,}", f"12345{rest}")) | set(title.split()) <= whole, line


def test_a_long_title_leaves_room_for_count_and_time(clock: Clock) -> None:
    with Progress(f"reading the headers in /data/{'some_folder/' * 9}shards", 9, "shard", shown=False) as shown:
        clock.now += 6
        shown.advance(3)
    assert shown.line(40) == "reading the …lder/shards 3/9  0:12 left"
    assert shown.line(300).startswith(f"{shown.title} ━") and len(shown.line(78)) <= 78


def test_the_time_left_has_what_follows(clock: Clock) -> None:
    assert "  1:40 left" in training(clock, 50, 100, seconds=100).summary()
    shown = training(clock, 50, 100, seconds=100, later=30)
    assert "  2:10 left" in shown.summary() and "  2:10 left" in shown.line(80)
    shown.advance(50)
    assert "  0:30 left" in shown.summary()
    shown.later = 3590.0  # as soon as more is known
    assert "  59:50 left" in shown.summary()


def test_the_last_line_is_not_printed_twice(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 2.0)
    for count in (3, 4):
        with Progress("training", count, "step") as shown:
            for _ in range(count):
                clock.now += 1.0
                shown.advance(1, NOTES)
        printed = capsys.readouterr().err.splitlines()
        assert [line.split()[1] for line in printed] == [f"2/{count}", f"{count}/{count}"]
        assert printed[-1] == f"training: {count}/{count}  1.00 step/s  0:00 left  D 0.69  G 0.76  L1 28.3  epoch 3"


def test_numbers_have_three_digits() -> None:
    values = (0.00004, 0.0069, 0.05, 0.1, 0.693, 9.994, 9.996, 28.34, 99.96, 123.4, 45678.9, 1e9, -0.5, float("nan"))
    shown = "4e-05 0.0069 0.05 0.10 0.69 9.99 10.0 28.3 100 123 45679 1e+09 -0.50 nan"
    assert [three_digits(value) for value in values] == shown.split()


def test_texts_are_shortened_in_the_middle() -> None:
    assert [shortened("abcdefgh", size) for size in (8, 7, 6, 3)] == ["abcdefgh", "abc…fgh", "abc…gh", "a…h"]


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ({"discriminator/gan": 0.69, "generator/gan": 0.76, "generator/l1": 28.3}, "D 0.69, G 0.76, L1 28.3"),
        # the generator's update first, as pix2pixHD has it, and a second loss of one name
        (
            {"generator/lsgan": 1.0, "generator/feature_matching": 12.0, "generator/l1_2": 2.0, "generator/l2": 0.5,
             "discriminator/lsgan": 0.5},
            "D 0.50, G 1.00, feature_matching 12.0, L1_2 2.00, L2 0.50",
        ),
        # all that the discriminator is trained by, and several losses against it
        (
            {"discriminator/wgan_gp": -3.0, "discriminator/gradient_penalty": 1.5, "discriminator/hinge": 1.0,
             "generator/wgan_gp": 2.0, "generator/hinge": -0.5},
            "D -0.50, G 1.50",
        ),
        (
            {"discriminator/gan": 0.7, "latent_discriminator/gan": 0.6, "generator/gan": 0.8,
             "generator/random_gan": 0.9, "generator/kl": 0.01, "encoder/l1": 4.0},
            "D 0.70, G 0.80, random_gan 0.90, KL 0.01, latent_discriminator GAN 0.60, encoder L1 4.00",
        ),
        ({"generator/l1": 0.25, "generator/ssim": 0.5}, "L1 0.25, ssim 0.50"),
        ({}, ""),
    ],
    ids=["pix2pix", "hd", "wgan", "bicyclegan", "no discriminator", "no losses"],
)  # fmt: skip
def test_losses_have_short_names(means: dict[str, float], expected: str) -> None:
    assert ", ".join(short_losses(means)) == expected


def test_the_first_line_has_losses_before_any_are_logged(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    ended = p2pkit("run", recipe, "--out", tmp_path / "run", "--device", "cpu", "--set", "train.log_every=3")
    found = re.findall(r"training: (\d)/4 .* left  D (\S+)  G (\S+)  L1 (\S+)  epoch (\d)\n", ended.err)
    assert [(step, epoch) for step, *_, epoch in found] == [("1", "1"), ("2", "1"), ("3", "1"), ("4", "2")], ended.err
    means = [losses for _, *losses, _ in found]
    assert means[0] != means[1] != means[2] == means[3]  # as they are, until they are logged


def screen(output: str, width: int) -> list[str]:
    """What a terminal of ``width`` columns shows in the end."""
    rows, row, column = [""], 0, 0
    for sequence, char in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", output):
        if sequence == "2K":
            rows[row] = ""
        elif sequence.endswith("A"):
            row -= int(sequence[:-1] or 1)
        elif char == "\r":
            column = 0
        elif char == "\n" or (char and column == width):
            row, column = row + 1, 0 if char != "\n" else column
            rows += [""] * (row + 1 - len(rows))
        if char not in ("", "\r", "\n"):
            rows[row] = f"{rows[row][:column]:{column}}{char}{rows[row][column + 1 :]}"
            column += 1
    return rows


def on_a_terminal(width: int, interrupt_at: str, *arguments: object) -> str:
    """What the program writes on a terminal; Ctrl-C is pressed once ``interrupt_at`` is there, if it is not empty."""
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    child, terminal = pty.fork()
    if child == 0:
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        command = [sys.executable, "-m", "p2pkit", *map(str, arguments)]
        os.execve(sys.executable, command, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    output, until = b"", time.monotonic() + 60.0
    while time.monotonic() < until and select.select([terminal], [], [], 60.0)[0]:
        try:
            output += os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if interrupt_at and re.search(interrupt_at, output.decode(errors="ignore")):
            os.write(terminal, b"\x03")
            interrupt_at = ""
    os.close(terminal)  # which ends what still runs there
    os.waitpid(child, 0)
    return output.decode()


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_shows_one_whole_line(width: int, recipe: Path, tmp_path: Path) -> None:
    settings = ("train.max_steps=9999", "train.log_every=9999", "train.sample_every=7", "train.checkpoint_every=5")
    arguments = ("run", recipe, "--out", tmp_path / "run", "--device", "cpu", "--set", "validation.every=5")
    overrides = [word for setting in settings for word in ("--set", setting)]
    output = on_a_terminal(width, r" [2-9]\d/9999.* D ", *arguments, *overrides)
    assert "^C" in output
    shown = screen(output, width)
    (line,) = (row for row in shown if row.startswith("training"))
    assert len(line) <= width and not any("measuring" in row for row in shown), shown
    numbers = r"D \d\.\d+" if width == 40 else r"D \d\.\d+  G \d\.\d+  L1 \d\d\.\d"
    assert re.fullmatch(rf"training (━* )?\d+/9999 .* left  {numbers}(  epoch \d+)?", line), line
    assert any(re.match(r"interrupted at step \d+", row) for row in shown), shown
