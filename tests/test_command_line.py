"""The program's face: help without torch, exit codes, messages, and listings that fit the screen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, create_model

from p2pkit import __version__
from p2pkit.cli.main import COMMANDS
from p2pkit.cli.tables import WIDTH, print_facts, print_table, print_text
from p2pkit.components.type_words import type_text
from tests.conftest import FAKE_DISTRIBUTION, Call

WITHOUT_TORCH = """
import sys
from p2pkit.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "torch was imported"
    assert "pydantic" not in sys.modules, "pydantic was imported"
"""
WITHOUT_RICH = f'{WITHOUT_TORCH}    assert "rich" not in sys.modules, "rich was imported"\n'
HELPS = [["--help"], *[[name, "--help"] for name in COMMANDS], ["plugins", "new", "--help"]]


def too_long(text: str) -> list[str]:
    """The lines that do not fit a terminal of 80 columns."""
    return [line for line in text.splitlines() if len(line) > WIDTH]


@pytest.mark.parametrize("arguments", HELPS)
def test_help_fits_the_screen_and_never_imports_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_RICH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: p2pkit")
    assert too_long(done.stdout) == []


@pytest.mark.parametrize("arguments", [["plugins"], ["plugins", "--json"], ["plugins", "list"]])
def test_plugins_never_imports_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "builtin" in done.stdout


def test_a_misspelt_command_gets_the_nearest(p2pkit: Call) -> None:
    outcome = p2pkit("rum")
    assert outcome.code == 2
    assert "did you mean 'run'?" in outcome.err


@pytest.mark.parametrize(("word", "command"), [("train", "run"), ("predict", "translate"), ("test", "evaluate")])
def test_a_word_of_the_field_for_a_command_is_understood(word: str, command: str, p2pkit: Call) -> None:
    outcome = p2pkit(word, "recipe.toml")
    assert outcome.code == 2
    assert f"no such command {word!r}; did you mean {command!r}?" in outcome.err


def test_an_unknown_option_is_the_users_mistake(p2pkit: Call) -> None:
    outcome = p2pkit("run", "--recipe", "x.toml")
    assert outcome.code == 2
    assert "--recipe" in outcome.err


def test_run_needs_a_recipe(p2pkit: Call) -> None:
    outcome = p2pkit("run")
    assert outcome.code == 2
    assert "RECIPE" in outcome.err


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "p2pkit", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("p2pkit, version")


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m p2pkit schema | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == f"p2pkit {__version__}: schema (loading PyTorch ...)\n"


@pytest.mark.parametrize("form", ["generator", "generators"])
def test_components_of_a_kind_are_listed_one_line_each(form: str, p2pkit: Call) -> None:
    outcome = p2pkit("components", form)
    assert outcome.code == 0 and outcome.err.splitlines() == [
        f"p2pkit {__version__}: components {form} (loading PyTorch ...)"
    ]
    assert outcome.out.startswith("generators:\n")
    assert "  resnet           Two halvings, `blocks` residual blocks, two doublings.\n" in outcome.out
    assert "multiples of 4" not in outcome.out and "whole number" not in outcome.out
    assert "patchgan" not in outcome.out
    assert [each["kind"] for each in p2pkit("components", form, "--json").json] == ["generators"] * 4


def test_what_components_share_is_said_once(p2pkit: Call) -> None:
    listed = p2pkit("components").out
    assert listed.count("strided 4x4 convolutions and two more of stride 1") == 1
    assert listed.count("The paper's U-Net") == 1
    assert "  patchgan_70   patchgan with layers = 3\n" in listed
    assert "  encoder_decoder  unet with skips = false\n" in listed
    assert "p2pkit 0" not in listed


def test_a_component_is_shown_whole_by_its_name(p2pkit: Call) -> None:
    shown = p2pkit("components", "unet")
    assert shown.code == 0 and shown.out.startswith("unet (generator, p2pkit ")
    words = " ".join(shown.out.split())
    assert "unet.py:" in words and "Depth 8 at width 64 is the paper's network for 256x256" in words
    assert "depth whole number from 2 to 8 halvings on the way down; 12 in a run that does not set it as many" in words
    assert "dropout float from 0 to below 1 0.5 probability" in words
    assert "Args:" not in words
    (described,) = p2pkit("components", "unet", "--json").json
    assert described["kind"] == "generators" and described["base"] is None
    assert described["parameters"][1] == {
        "name": "width", "type": "whole number from 1 on", "default": 64, "required": False,
        "help": "channels of the first block; blocks double them up to eight times that.",
    }  # fmt: skip


def test_a_component_that_is_another_with_a_parameter_set_says_so(p2pkit: Call) -> None:
    shown = p2pkit("components", "patchgan_70").out
    assert "\npatchgan with layers = 3\n" in shown and "every pixel is classified by itself" in shown
    assert "strided convolutions." not in shown
    (described,) = p2pkit("components", "patchgan_70", "--json").json
    assert (described["base"], described["fixed"]) == ("patchgan", {"layers": 3})


def test_a_component_without_parameters_says_so(p2pkit: Call) -> None:
    assert p2pkit("components", "mae").out.endswith("It has no parameters.\n")


@pytest.mark.parametrize(
    ("word", "guess"), [("generatorz", "generator"), ("lossess", "losses"), ("patchgam_70", "patchgan_70")]
)
def test_what_is_neither_a_kind_nor_a_component_gets_the_nearest_of_both(word: str, guess: str, p2pkit: Call) -> None:
    outcome = p2pkit("components", word)
    assert outcome.code == 2 and outcome.out == ""
    assert outcome.err.count("did you mean") == 1 and f"did you mean '{guess}" in outcome.err


def test_what_is_wrong_with_plugins_is_said_in_either_view(p2pkit: Call) -> None:
    options = ("--plugins-dir", FAKE_DISTRIBUTION, "components")
    listed = p2pkit(*options)
    assert "Shifts every colour. (faketile 1.2)" in listed.out
    assert "CANNOT BE USED: 'without_annotation' of faketile 1.2" in " ".join(listed.out.split())
    assert listed.err.count("Warning: tile_quits (faketile 1.2): SystemExit: not today") == 1
    shown = p2pkit(*options, "without_annotation")
    assert shown.code == 0
    assert "CANNOT BE USED: 'without_annotation' of faketile 1.2" in " ".join(shown.out.split())
    twice = p2pkit(*options, "contested")
    assert twice.code == 2 and "Error: generators: the name 'contested' is offered by" in twice.err
    assert too_long(listed.out + shown.out) == []


@pytest.mark.parametrize("arguments", [[], ["losses"], ["unet"], ["facades"], ["perceptual"]], ids=str)
def test_listings_of_components_fit_the_screen(arguments: list[str], p2pkit: Call) -> None:
    listed = p2pkit("components", *arguments).out
    assert listed and too_long(listed) == [] and "…" not in listed


def test_a_check_fits_the_screen(recipe: Path, p2pkit: Call) -> None:
    checked = p2pkit("check", recipe)
    assert checked.code == 0 and too_long(checked.out) == []
    assert "generator: unet, " in checked.out and "receptive field: 16 pixels" in checked.out
    assert "source: 24x24 (height x width), 3 channels of uint8, values 0 to 255\n" in checked.out
    assert str(recipe) in checked.out.replace("\n", "").replace(" " * len("recipe: "), "")


def test_plugins_fit_the_screen(p2pkit: Call) -> None:
    listed = p2pkit("--plugins-dir", FAKE_DISTRIBUTION, "plugins").out
    assert "LEFT OUT" in listed and too_long(listed) == []


def test_values_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_facts([("a", "[red]x[/red] :smile: [1, 2]"), ("longer", "\x1b[2J")])
    print_table([("[b]", "/path/1.png")], header=("", ""))
    print_text("x" * 100)
    assert capsys.readouterr().out == (
        "     a: [red]x[/red] :smile: [1, 2]\nlonger: \\x1b[2J\n[b]  /path/1.png\n" + "x" * 80 + "\n" + "x" * 20 + "\n"
    )


def test_long_values_wrap_after_commas(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("parameters", ", ".join(f'name_{index} = "some value"' for index in range(5)))])
    first, *others = capsys.readouterr().out.splitlines()
    assert first == 'parameters: name_0 = "some value", name_1 = "some value",'
    assert all(line.startswith(" " * len("parameters: ") + "name_") for line in others)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[float, Field(ge=0, lt=1)], "float from 0 to below 1"),
        (Annotated[float, Field(gt=0)], "float above 0"),
        (Annotated[float, Field(le=0.5)], "float up to 0.5"),
        (Annotated[int, Field(gt=0)], "whole number from 1 on"),
        (Annotated[int, Field(ge=2, lt=13)], "whole number from 2 to 12"),
        (Annotated[int, Field(multiple_of=8)], "whole number, a multiple of 8"),
        (Annotated[int, Field(ge=0)] | None, "whole number from 0 on"),
        (Annotated[int | None, Field(ge=0)], "whole number from 0 on"),
        (bool, "true or false"),
        (Path | None, "a path"),
        (str | float, "text or float"),
        (Literal["batch", "instance", "none"], "one of: batch, instance, none"),
        (tuple[Annotated[float, Field(ge=0)], ...], "list of floats from 0 on"),
        (Annotated[list[Path], Field(min_length=1)], "list of paths, at least 1 long"),
        (tuple[int, int], "list of 2 whole numbers"),
        (tuple[str, float], "list of 2: text, float"),
        (Sequence[Literal["a", "b"]], "list of values, each one of: a, b"),
        (dict[str, Any], "table"),
        (dict[str, float], "table of floats"),
    ],
    ids=str,
)
def test_types_read_as_a_person_writes_them(kind: Any, words: str) -> None:
    assert type_text(create_model("Model", value=(kind, ...)).model_fields["value"]) == words
