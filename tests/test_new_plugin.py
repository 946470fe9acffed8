"""``p2pkit plugins new``: what it writes installs, trains and passes its own tests; bad names are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import p2pkit as library
from p2pkit.components.host import configure
from p2pkit.components.kinds import KINDS
from p2pkit.new_plugin.names import checked_names
from p2pkit.new_plugin.writing import PUBLIC_MODULES
from tests.conftest import FAKE_DISTRIBUTION, REPOSITORY, Call, distribution, picture, save
from tests.environment import Environment

CHECKS = ("ruff check", "ruff format --check", "mypy", "lint-imports")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in."""
    before = list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = before
    for module in [module for module in sys.modules if module.startswith("p2pkit_fresh")]:
        del sys.modules[module]
    configure()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment") / "venv")


def commands() -> list[str]:
    """The commands at the beginning of docs/plugins.md."""
    text = (REPOSITORY / "docs" / "plugins.md").read_text()
    title, block = re.findall(r"## (.*commands)\n\n((?:    .*\n)+)", text)[0]
    found = [line.strip() for line in block.splitlines()]
    assert len(found) < 5 and title == "Your own plugin in four commands"
    return found


def test_the_documented_commands_lead_to_a_generator_of_ones_own(environment: Environment, here: Path) -> None:
    new, install, run, test = commands()
    printed = environment.run(new, here)
    assert install.replace("[test]", "").replace("'", "") in printed and run in printed
    environment.run(install, here)
    environment.run(f"{run} --set train.max_steps=2 --out run", here)
    assert "distribution: p2pkit-stripes\ndistribution version: 0.1.0\n" in environment.run("p2pkit inspect run", here)
    assert test == "pytest p2pkit-stripes" and (here / "p2pkit-stripes" / "tests").is_dir()
    environment.run("pip uninstall --yes p2pkit-stripes", here)


@pytest.mark.slow
def test_the_documented_commands_as_they_stand(environment: Environment, here: Path) -> None:
    for command in commands():
        environment.run(command, here)
    environment.run("pip uninstall --yes p2pkit-stripes", here)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_tests_and_checks(kind: str, environment: Environment, here: Path) -> None:
    name = f"new-{kind.replace('_', '-')}"
    environment.run(f"p2pkit plugins new {name} --kind {kind}", here)
    environment.run(f"pip install './p2pkit-{name}[test]'", here)
    cache = environment.packages.parent / "mypy_cache"
    for check in ("pytest", *CHECKS):
        command = f"{check} --cache-dir {cache}" if check == "mypy" else check
        environment.run(command, here / f"p2pkit-{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_of_each_kind_trains_from_its_recipe(kind: str, p2pkit: Call, here: Path) -> None:
    made = p2pkit("plugins", "new", "fresh", "--kind", kind)
    assert made.code == 0, made.err
    folder = here / "p2pkit-fresh"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    plugins = distribution(here / "plugins", project["name"], project["version"], project["entry-points"]["p2pkit"])
    (plugins / "p2pkit_fresh").symlink_to(folder / "p2pkit_fresh")
    recipe = "fresh:quickstart"
    settings = ("--set", "train.max_steps=1", "--set", "data.size=32", "--set", "generator.width=4")
    options = ("--plugins-dir", plugins)
    ended = p2pkit(*options, "run", recipe, "--out", "run", "--device", "cpu", *settings)
    assert ended.code == 0, ended.err
    listed = p2pkit(*options, "components", kind, "--json").json
    (fresh,) = [component for component in listed if component["name"] == "fresh"]
    assert (fresh["distribution"], fresh["problem"]) == ("p2pkit-fresh", None)
    if kind == "exporters":
        assert p2pkit(*options, "export", "run", "--format", "fresh", "--out", "exported").code == 0
    elif kind == "image_formats":
        for source, out in ((save(here / "a.png", picture(32, 32, seed=0)), "first"), (here / "first", "second")):
            assert p2pkit(*options, "translate", "run", source, "--out", out, "--format", "fresh").code == 0
        assert (here / "second" / "a.fresh").read_bytes().startswith(b"fresh\n")
    else:
        assert 'name = "fresh"' in p2pkit(*options, "show", recipe).out.partition("[run]")[2].partition("\n")[2]


def test_new_plugins_of_all_kinds_are_linted(p2pkit: Call, here: Path) -> None:
    for kind in KINDS:
        for length in (1, 13):
            assert p2pkit("plugins", "new", f"{kind}-{'x' * length}", "--kind", kind).code == 0
    for check in ("check", "format --check"):
        command = [sys.executable, "-m", "ruff", *check.split(), "--no-cache", "."]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout


def within(module: str, names: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in names)


def test_a_new_plugin_may_import_the_public_api_alone(p2pkit: Call) -> None:
    assert p2pkit("plugins", "new", "fresh").code == 0
    (contract,) = tomllib.loads(Path("p2pkit-fresh/pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = {module.removeprefix("p2pkit.") for module in contract["forbidden_modules"]}
    root = Path(library.__path__[0])
    modules = {".".join(file.relative_to(root).with_suffix("").parts) for file in root.rglob("*.py")}
    in_packages = {module for module in modules if not module.endswith("__init__")}
    # each module is either public or private
    assert {each for each in in_packages if within(each, forbidden) == within(each, PUBLIC_MODULES)} == {"__main__"}
    # import-linter refuses names of modules that are not there
    assert all(name in modules or f"{name}.__init__" in modules for name in forbidden | PUBLIC_MODULES)
    documented = (REPOSITORY / "docs/plugins.md").read_text()
    assert [module for module in PUBLIC_MODULES if f"`p2pkit.{module}`" not in documented] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("stripes", ("p2pkit-stripes", "p2pkit_stripes", "stripes", "StripesGenerator")),
        ("p2pkit-stripes", ("p2pkit-stripes", "p2pkit_stripes", "stripes", "StripesGenerator")),
        ("my-plugin", ("p2pkit-my-plugin", "p2pkit_my_plugin", "my_plugin", "MyPluginGenerator")),
        ("unet3d_v2", ("p2pkit-unet3d-v2", "p2pkit_unet3d_v2", "unet3d_v2", "Unet3dV2Generator")),
    ],
)
def test_one_name_gives_all_names(given: str, expected: tuple[str, ...]) -> None:
    names = checked_names(given, "generators")
    assert (names.distribution, names.package, names.name, names.component) == expected


@pytest.mark.parametrize(
    "name",
    [
        "", "-", "p2pkit-", "Stripes", "my plugin", "my.plugin", "../evil", "/evil", "a/b", "a\\b", "façade",
        "１２", "2fast", "a--b", "_a", "a-", "a\n", "a\x1b[2J", "x" * 31, "$name", "p2pkit-p2pkit-", "..",
    ],
)  # fmt: skip
def test_an_invalid_name_is_refused_with_what_is_allowed(name: str, p2pkit: Call, here: Path) -> None:
    outcome = p2pkit("plugins", "new", "--", name)
    assert outcome.code == 2 and outcome.out == "" and "\x1b" not in outcome.err
    assert "allowed: lowercase letters from a to z, digits, and single hyphens" in outcome.err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("given", "possible"), [("My Plugin", "my-plugin"), ("a.b", "a-b"), ("2Fast", "fast")])
def test_a_name_that_is_nearly_valid_gets_a_suggestion(given: str, possible: str, p2pkit: Call) -> None:
    assert f", as in {possible}\n" in p2pkit("plugins", "new", given).err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("class", "'class' is a Python keyword"),
        ("none", "'None' is a Python keyword"),
        ("p2pkit", "it is the name of p2pkit itself"),
        ("builtin", "the plugin builtin (p2pkit 0.1.0) has that name"),
        ("tile", "the plugin tile (faketile 1.2) has that name"),
        ("tint", "faketile 1.2 has a generator of that name"),
        ("unet", "p2pkit 0.1.0 has a generator of that name"),
        ("present", "p2pkit-present 3 is installed"),
        ("importable", "a package p2pkit_importable is installed"),
    ],
)
def test_a_taken_name_is_refused(
    name: str, reason: str, p2pkit: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(here / "site", "p2pkit-present", "3", {})
    (here / "site" / "p2pkit_importable.py").touch()
    monkeypatch.syspath_prepend(here / "site")
    outcome = p2pkit("--plugins-dir", FAKE_DISTRIBUTION, "plugins", "new", name)
    assert outcome.code == 2 and reason in outcome.err and "Choose another name" in outcome.err
    assert [path.name for path in here.iterdir()] == ["site"]


@pytest.mark.parametrize("there", ["a folder", "a file", "a broken link"])
def test_what_is_there_stays_as_it_is(there: str, p2pkit: Call, here: Path) -> None:
    taken = here / "p2pkit-stripes"
    if there == "a folder":
        taken.mkdir()
    elif there == "a file":
        taken.touch()
    else:
        taken.symlink_to("nowhere")
    outcome = p2pkit("plugins", "new", "stripes")
    assert outcome.code == 2 and "p2pkit-stripes already exists; move it away" in outcome.err
    assert list(here.iterdir()) == [taken] and (there != "a folder" or list(taken.iterdir()) == [])


def test_a_plugin_that_cannot_be_written_leaves_nothing(
    p2pkit: Call, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    outcome = p2pkit("plugins", "new", "stripes")
    assert outcome.code == 2 and "No space left on device" in outcome.err and "p2pkit-stripes" in outcome.err
    assert list(here.iterdir()) == []
