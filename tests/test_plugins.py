"""Plugins: found, listed, kept from harming one another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import p2pkit as p2pkit_library
from p2pkit.components.host import configure, manager
from p2pkit.errors import PluginError, UnknownComponent
from tests.conftest import FAKE_DISTRIBUTION, Call

FROM_FAKE = ("--plugins-dir", FAKE_DISTRIBUTION)


@pytest.fixture(autouse=True)
def clean_path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    configure()


def test_a_good_plugin_is_listed_with_its_hooks(p2pkit: Call) -> None:
    listed = {plugin["name"]: plugin for plugin in p2pkit(*FROM_FAKE, "plugins", "--json").json}
    good = listed["tile"]
    assert (good["distribution"], good["version"], good["problem"]) == ("faketile", "1.2", None)
    assert good["hooks"] == [
        "register_commands", "register_data_commands", "register_discriminators", "register_generators",
        "register_losses",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tile_broken", "No module named 'a_library_that_nobody_has'"),
        ("tile_quits", "SystemExit: not today"),
        ("tile_misspelt", "did you mean 'register_generators'?"),
        ("builtin", "its name is taken by builtin (p2pkit"),
    ],
)
def test_a_bad_plugin_is_skipped_with_the_reason(name: str, reason: str, p2pkit: Call) -> None:
    listed = p2pkit(*FROM_FAKE, "plugins", "--json").json
    bad = [plugin for plugin in listed if plugin["name"] == name and plugin["problem"]]
    assert len(bad) == 1 and reason in bad[0]["problem"]
    assert bad[0]["distribution"] == "faketile"
    warned = p2pkit(*FROM_FAKE, "schema")
    assert warned.code == 0
    assert f"{name} (faketile 1.2)" in warned.err and reason in warned.err


def test_components_of_plugins_and_built_ins_stand_side_by_side(p2pkit: Call) -> None:
    described = {
        component["name"]: component for component in p2pkit(*FROM_FAKE, "components", "generators", "--json").json
    }
    assert "unet" in described
    tint = described["tint"]
    assert tint["distribution"] == "faketile"
    assert tint["file"].endswith("faketile_good.py") and tint["line"] > 1
    assert tint["parameters"] == [
        {"name": "strength", "type": "float from 0 to 1", "default": 0.5, "required": False, "help": "by how much."}
    ]


def test_a_name_offered_twice_belongs_to_nobody_and_names_both(p2pkit: Call) -> None:
    outcome = p2pkit(*FROM_FAKE, "components", "generators")
    assert outcome.code == 0
    assert "'contested' is offered by faketile 1.2 and faketwin 0.3" in outcome.err
    configure(plugins_dir=FAKE_DISTRIBUTION)
    with pytest.raises(PluginError, match=r"faketile 1\.2 and faketwin 0\.3"):
        manager().registry("generators").get("contested")


def test_without_one_of_the_two_the_other_has_the_name() -> None:
    configure(disabled=["twin"], plugins_dir=FAKE_DISTRIBUTION)
    assert manager().registry("generators").get("contested").distribution == "faketile"


def test_a_hook_that_fails_is_reported_where_its_components_are_missed() -> None:
    configure(plugins_dir=FAKE_DISTRIBUTION)
    assert "patchgan_70" in p2pkit_library.components("discriminators")
    with pytest.raises(UnknownComponent, match=r"tile_half .*no discriminators today"):
        p2pkit_library.create("discriminators", "patchgan_7")


def test_a_factory_without_annotations_says_which_one(p2pkit: Call) -> None:
    outcome = p2pkit(*FROM_FAKE, "components", "generators")
    assert "parameter 'depth' has no type annotation" in " ".join(outcome.out.split())


def test_plugins_add_commands(p2pkit: Call) -> None:
    assert p2pkit(*FROM_FAKE, "tile").out == "tiled\n"
    helped = subprocess.run(
        [sys.executable, "-m", "p2pkit", *map(str, FROM_FAKE), "--help"], capture_output=True, text=True, check=True
    )
    assert "Said by a plugin." in helped.stdout


def test_plugins_add_commands_about_data(p2pkit: Call) -> None:
    assert p2pkit(*FROM_FAKE, "data", "lay").out == "laid\n"
    assert "Said of data by a plugin." in p2pkit(*FROM_FAKE, "data", "--help").out
    skipped = p2pkit(*FROM_FAKE, "--no-plugin", "tile", "data", "lay")
    assert skipped.code == 2 and "No such command 'lay'" in skipped.err


def test_a_command_of_ours_that_is_not_installed_is_told_by_its_distribution(
    p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PKIT_PLUGINS", "")
    outcome = p2pkit("data", "shard")
    assert outcome.code == 2 and "pip install p2pkit-webdataset" in outcome.err


def test_no_plugin_leaves_one_out(p2pkit: Call) -> None:
    listed = p2pkit(*FROM_FAKE, "--no-plugin", "tile", "plugins", "--json").json
    assert "tile" not in [plugin["name"] for plugin in listed]
    misspelt = p2pkit(*FROM_FAKE, "--no-plugin", "tild", "plugins")
    assert misspelt.code == 2 and "did you mean 'tile'?" in misspelt.err


def test_the_variable_limits_plugins_to_those_it_names(p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PKIT_PLUGINS", "twin")
    listed = p2pkit(*FROM_FAKE, "plugins", "--json").json
    assert {plugin["name"] for plugin in listed if not plugin["problem"]} == {"builtin", "twin"}


def test_a_misspelt_name_in_the_variable_is_told(p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PKIT_PLUGINS", "twn")
    outcome = p2pkit(*FROM_FAKE, "plugins")
    assert outcome.code == 2 and "P2PKIT_PLUGINS twn" in outcome.err and "did you mean 'twin'?" in outcome.err


def test_an_optional_parameter_that_toml_does_not_know_is_left_out(p2pkit: Call) -> None:
    outcome = p2pkit(*FROM_FAKE, "components", "generators", "--json")
    (odd,) = [component for component in outcome.json if component["name"] == "odd_default"]
    assert (odd["problem"], odd["parameters"]) == (None, [])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "its signature is not a schema"),
        ("called_name", "in recipes 'name' is not a parameter"),
        ("callback", "parameter 'act' is a Callable, which TOML cannot express; give it a default"),
    ],
)
def test_one_odd_component_leaves_the_listings_whole(name: str, reason: str, p2pkit: Call) -> None:
    outcome = p2pkit(*FROM_FAKE, "components", "generators", "--json")
    described = {component["name"]: component for component in outcome.json}
    assert reason in described[name]["problem"] and described["unet"]["problem"] is None
    assert p2pkit(*FROM_FAKE, "schema").code == 0


def test_a_bound_that_fits_no_type_is_the_plugins_mistake(p2pkit: Call, recipe: Path) -> None:
    outcome = p2pkit(*FROM_FAKE, "check", recipe, "--set", "generator.name=odd_bound", "--set", "generator.mode=y")
    assert outcome.code == 2 and "generator: 'odd_bound': one of its bounds" in outcome.err


def test_a_parameter_may_have_any_other_name(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "generator.name=of_kind", "--set", 'generator.kind="soft"', "--device", "cpu")
    run = tmp_path / "run"
    assert p2pkit(*FROM_FAKE, "run", recipe, "--out", run, *settings).code == 0
    assert p2pkit(*FROM_FAKE, "translate", run, recipe.parent / "pairs", "--out", tmp_path / "o").code == 0


def test_the_command_that_goes_on_has_what_the_run_was_given(
    p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("p2pkit.training.trainer.Trainer._write_what_is_due", interrupted)
    options = (*FROM_FAKE, "--no-plugin", "twin", "run")
    outcome = p2pkit(*options, recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 130
    said = outcome.err.splitlines()[-1].strip()
    assert said == " ".join(map(str, ("p2pkit", *options, "--device", "cpu", "--resume", tmp_path / "run")))


def test_a_discriminator_may_answer_with_a_judgement(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace('name = "patchgan_16"\nwidth = 4', 'name = "judge"'))
    checked = p2pkit(*FROM_FAKE, "check", recipe)
    assert checked.code == 0 and "receptive field: 3 pixels" in checked.out, checked.err
    assert p2pkit(*FROM_FAKE, "run", recipe, "--out", tmp_path / "run").code == 0


def test_a_missing_plugins_folder_is_named(p2pkit: Call, tmp_path: Path) -> None:
    outcome = p2pkit("--plugins-dir", tmp_path / "nowhere", "plugins")
    assert outcome.code == 2 and "nowhere" in outcome.err


def test_a_plugins_component_trains_from_a_recipe(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "generator.name=tint", "--set", "generator.strength=0.1", "--set", "losses.1.name=brightness")
    out = tmp_path / "run"
    trained = p2pkit(*FROM_FAKE, "run", recipe, "--out", out, *settings)
    assert trained.code == 0, trained.err
    sys.path.remove(str(FAKE_DISTRIBUTION))
    without = p2pkit("translate", out / "model.safetensors", recipe.parent / "pairs" / "train", "--out", tmp_path / "o")
    assert without.code == 2
    assert "pip install faketile" in without.err


def test_an_unknown_kind_gets_the_nearest(p2pkit: Call) -> None:
    outcome = p2pkit("components", "generatorz")
    assert outcome.code == 2 and "did you mean 'generator'?" in outcome.err
    with pytest.raises(UnknownComponent, match="there is no kind 'generatorz'; did you mean 'generators'"):
        p2pkit_library.components("generatorz")
    assert p2pkit_library.components("generator") == p2pkit_library.components("generators")


def test_the_function_components_is_not_hidden_by_the_package() -> None:
    from p2pkit.components.host import manager

    assert "unet" in p2pkit_library.components("generators") and manager() is manager()


SOURCE = """
import p2pkit


class Flat:
    \"\"\"Zero.\"\"\"

    def generator_loss(self, step):
        return step.fake.abs().mean()


@p2pkit.hookimpl
def register_losses(register):
    register("flat", Flat)
"""
PROJECT = """
[project]
name = "p2pkit-flat"
version = "0.7"
dependencies = ["p2pkit{versions}"]

[project.entry-points.p2pkit]
flat = "p2pkit_flat"
"""


def source_tree(folder: Path, sources: str, versions: str = "") -> Path:
    """A distribution that is not installed, with its module in the folder ``sources``."""
    (folder / sources / "p2pkit_flat/recipes").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(versions=versions))
    (folder / sources / "p2pkit_flat/__init__.py").write_text(SOURCE)
    return folder


@pytest.mark.parametrize("sources", [".", "src"])
def test_a_source_tree_is_loaded_by_its_folder_or_by_the_one_above(
    sources: str, p2pkit: Call, recipe: Path, tmp_path: Path
) -> None:
    tree = source_tree(tmp_path / "trees/p2pkit-flat", sources)
    (tree / sources / "p2pkit_flat/recipes/small.toml").write_text(recipe.read_text())
    for folder in (tree, tmp_path / "trees"):
        sys.modules.pop("p2pkit_flat", None)
        listed = {plugin["name"]: plugin for plugin in p2pkit("--plugins-dir", folder, "plugins", "--json").json}
        flat = listed["flat"]
        assert (flat["distribution"], flat["version"], flat["problem"]) == ("p2pkit-flat", "0.7", None)
        assert flat["hooks"] == ["register_losses"] and flat["recipes"] == ["small"]
        assert p2pkit("--plugins-dir", folder, "components", "flat").code == 0
    assert p2pkit("--plugins-dir", tree, "show", "flat:small", "--set", "losses.1.name=flat").code == 0


def test_a_source_tree_for_another_version_is_left_out(p2pkit: Call, tmp_path: Path) -> None:
    outcome = p2pkit("--plugins-dir", source_tree(tmp_path, ".", ">=99"), "plugins")
    assert outcome.code == 0 and "it is built for p2pkit>=99" in outcome.err


def test_a_folder_without_plugins_says_why_nothing_is_loaded(p2pkit: Call, tmp_path: Path) -> None:
    empty = p2pkit("--plugins-dir", tmp_path, "plugins")
    assert empty.code == 2 and "holds no plugin" in empty.err and "found no pyproject.toml" in empty.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other/pyproject.toml").write_text('[project]\nname = "other"\nversion = "1"\n')
    other = p2pkit("--plugins-dir", tmp_path, "plugins")
    assert other.code == 2 and "[project.entry-points.p2pkit]" in other.err and "other/pyproject.toml" in other.err
    (tmp_path / "other/pyproject.toml").write_text("[project")
    damaged = p2pkit("--plugins-dir", tmp_path, "plugins")
    assert damaged.code == 2 and "other/pyproject.toml cannot be read" in damaged.err
    assert p2pkit("--plugins-dir", tmp_path / "gone", "plugins").code == 2
