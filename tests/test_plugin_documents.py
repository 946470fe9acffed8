"""docs/plugins.md: every hook and reserved name is documented, every example is installed, checked and used."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from p2pkit import hookspecs
from p2pkit.components.host import configure
from p2pkit.components.kinds import KINDS, SUPPLIED
from p2pkit.images.reading import read_image
from p2pkit.images.writing import write_image
from p2pkit.testing import check_component
from tests.conftest import REPOSITORY, Call, distribution, lines, train

PAGE = (REPOSITORY / "docs/plugins.md").read_text()
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("register_")}
USED = {
    "generators": ['generator.name="pixelwise"'],
    "discriminators": ['discriminator.name="whole_image"'],
    "losses": ['losses=[{name = "edges"}]'],
    "datasets": ['data={name = "inverted", pairs = 8}'],
    "datasets:1": ['data={name = "gradients", pairs = 8, side = 24}'],
    "methods": ['method.name="patient"'],
    "metrics": ['metrics=[{name = "rmse"}]'],
    "encodings": ['encoding={name = "waves"}'],
    "augmentations": ['augmentations=[{name = "gamma"}, {name = "blur", kernel_size = 3}]'],
    "optimizers": ['optimizer.name="decayed"', "optimizer.discriminator.lr=0.01"],
    "schedules": ['schedule.name="triangle"', "schedule.warmup=2"],
    "callbacks": ['callbacks=[{name = "diverged"}]'],
}


def section(hook: str) -> str:
    """What the page says from the place on where it names a hook, up to the next heading."""
    start = PAGE.index(f"`{hook}(")
    return PAGE[start : re.compile(r"^##", re.MULTILINE).search(PAGE, start).start()]  # type: ignore[union-attr]


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path, p2pkit: Call) -> Iterator[str]:
    """The distribution of an example below a hook (HOOK:1 is the second); the name of the component in it."""
    hook, _, number = request.param.partition(":")
    code = re.findall(r"^```python\n(.+?)^```", section(hook), re.MULTILINE | re.DOTALL)[int(number or 0)]
    folder = distribution(tmp_path / "plugins", "p2pkit-example", "1.0", {"example": "p2pkit_example"})
    (folder / "p2pkit_example.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.delitem(__import__("sys").modules, "p2pkit_example", raising=False)
        configure()
        yield re.findall(r'register\("(\w+)"', code)[0] if "register(" in code else ""


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_and_its_argument_are_documented(hook: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[hook]).parameters)
    assert f"`{hook}({arguments})`" in PAGE, f"docs/plugins.md does not document {hook}({arguments})"


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_that_the_assembly_supplies_is_documented(kind: str) -> None:
    missing = [name for name in SUPPLIED[kind] if f"`{name}`" not in section(f"register_{kind}")]
    assert not missing, f"docs/plugins.md does not say of {kind} that they may ask for {missing}"


@pytest.mark.parametrize(
    ("installed", "kind"),
    [(f"register_{example}", example.partition(":")[0]) for example in (*KINDS, "datasets:1")],
    indirect=["installed"],
    ids=[*KINDS, "datasets:1"],
)
def test_every_example_passes_the_contract_checks_of_its_kind(installed: str, kind: str, p2pkit: Call) -> None:
    assert "LEFT OUT" not in p2pkit("plugins").out
    assert installed in p2pkit("components", kind).out
    check_component(kind, installed)


@pytest.mark.parametrize(
    ("installed", "settings"),
    [(f"register_{kind}", settings) for kind, settings in USED.items()],
    indirect=["installed"],
    ids=list(USED),
)
def test_every_example_trains(installed: str, settings: list[str], recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    run = train(p2pkit, recipe, tmp_path / "run", *settings)
    assert f'"{installed}"' in (run / "recipe.toml").read_text()
    assert p2pkit("inspect", run).code == 0


@pytest.mark.parametrize("installed", ["register_metrics:1"], indirect=True)
def test_metrics_of_torchmetrics_pass_and_are_taken(installed: str, recipe: Path, tmp_path: Path, p2pkit: Call) -> None:
    names = {installed, "uqi", "contrast"}
    for name in names:
        check_component("metrics", name)
    assert "Fréchet" in p2pkit("components", "contrast").out
    listed = ", ".join(f'{{name = "{name}"}}' for name in names)
    run = train(p2pkit, recipe, tmp_path / "run", f"metrics=[{listed}]")
    assert {f"validation/{name}" for name in names} <= lines(run)[-1].keys()


@pytest.mark.parametrize("installed", ["register_exporters"], indirect=True)
def test_the_example_of_an_exporter_exports(installed: str, model: Path, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("export", model, "--format", installed, "--out", tmp_path / "model.pt2.gz")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "model.pt2.gz").is_file()


@pytest.mark.parametrize("installed", ["register_image_formats"], indirect=True)
def test_the_example_of_an_image_format_is_trained_on_and_translated_to(
    installed: str, recipe: Path, tmp_path: Path, p2pkit: Call
) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for index in range(count):
            pixels = rng.random((24, 24, 3), np.float32)
            write_image(tmp_path / "maps" / split / "target" / f"{index}.pfm", pixels)
            write_image(tmp_path / "maps" / split / "source" / f"{index}.pfm", 1 - pixels)
    settings = ('data.name="paired_folders"', f'data.root="{tmp_path / "maps"}"')
    options = [part for setting in settings for part in ("--set", setting)]
    for command in (("check",), ("data", "check")):
        checked = p2pkit(*command, recipe, *options)
        assert checked.code == 0, checked.err
    run, out = train(p2pkit, recipe, tmp_path / "run", *settings), tmp_path / "out"
    assert p2pkit("translate", run, tmp_path / "maps" / "test" / "source", "--out", out).code == 0
    assert sorted(file.name for file in out.glob("[!.]*")) == ["0.pfm", "1.pfm"]
    assert read_image(out / "0.pfm").shape == (24, 24, 3) and read_image(out / "0.pfm").dtype == np.float32
    assert p2pkit("translate", run, out, "--out", tmp_path / "again", "--format", "tif").code == 0
    assert (tmp_path / "again" / "0.tif").is_file()


@pytest.mark.parametrize("installed", ["register_commands"], indirect=True)
def test_the_examples_of_commands_run(installed: str, model: Path, recipe: Path, p2pkit: Call) -> None:
    assert p2pkit("greet", model).out == "Hello, unet.\n"
    assert p2pkit("data", "count", recipe).out == "6\n"
    assert "greet" in p2pkit("--help").out
