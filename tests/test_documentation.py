"""The examples in the documents, run; their links and their completeness."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

import p2pkit as library
from p2pkit import hookspecs
from p2pkit.cli.main import COMMANDS, program
from p2pkit.components.host import configure
from p2pkit.recipe.resolve import COMPONENT_LISTS, COMPONENTS, SETTINGS
from p2pkit.settings import FIXED_KEYS
from p2pkit.testing import components_of
from tests.conftest import REPOSITORY, Call, distribution, picture, save, train, untrained_model

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / document).read_text(), re.DOTALL)


def test_the_generator_in_ten_lines(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    code = blocks("CONTRIBUTING.md", "python")[0]
    project, chosen = (tomllib.loads(text) for text in blocks("CONTRIBUTING.md", "toml")[:2])
    described = project["project"]
    ((_, module),) = described["entry-points"]["p2pkit"].items()
    plugins = distribution(
        tmp_path / "plugins", described["name"], described["version"], described["entry-points"]["p2pkit"]
    )
    (plugins / f"{module}.py").write_text(code)
    text = recipe.read_text().replace("depth = 3\nwidth = 4", 'name = "blur"\nmargin = 3')
    assert chosen == {"generator": {"name": "blur", "margin": 3}}
    recipe.write_text(text)
    outcome = p2pkit("--plugins-dir", plugins, "run", recipe, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err


def test_the_tests_of_that_generator(tmp_path: Path) -> None:
    (plugin,) = blocks("CONTRIBUTING.md", "python")
    (tests,) = (block for block in blocks("docs/plugins.md", "python") if "check_component" in block)
    (distribution(tmp_path, "p2pkit-blur", "0.1", {"blur": "p2pkit_blur"}) / "p2pkit_blur.py").write_text(plugin)
    defined: dict[str, Any] = {}
    before = list(sys.path)
    try:
        configure(plugins_dir=tmp_path)
        exec(tests, defined)
        found = [value for name, value in defined.items() if name.startswith("test_")]
        for test in found:
            test()
        assert len(found) == 2 and components_of("p2pkit-blur") == [("generators", "blur")]
    finally:
        sys.path[:] = before
        configure()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_recipe_reference_names_every_key() -> None:
    text = (REPOSITORY / "docs" / "recipes.md").read_text()
    keys = [f"`{key}`" for model in (*SETTINGS.values(), *FIXED_KEYS.values()) for key in model.model_fields]
    sections = [f"[{name}]" for name in (*SETTINGS, *COMPONENTS)] + [f"[[{name}]]" for name in COMPONENT_LISTS]
    assert [missing for missing in (*keys, *sections) if missing not in text] == []


def test_the_readme_names_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert [name for name in COMMANDS if f"p2pkit {name}" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_commands_are_shown_with_options_that_they_have(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "commands", {})  # to which those of plugins are added
    text = document.read_text().replace("\\\n", "")  # a line that goes on in the next
    for line in re.findall(r"^ {4}(?:for .* do |.* -m )?(p2pkit [a-z].*)$", text, re.MULTILINE):
        assert "\\" not in line, line
        command: click.Command | None = program
        words = re.split(r"[\s;]+", line.partition("#")[0])
        for word in words[1:]:
            if isinstance(command, click.Group) and not word.startswith("-"):
                context = click.Context(command)
                context.params["plugins_dir"] = REPOSITORY / "plugins"
                command = command.get_command(context, word)
        if command is not None:  # else it is a plugin's
            options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= {*options, "--help"}, line


def test_options_of_the_reference_are_given_as_keys_that_exist(p2pkit: Call, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "importing.md").read_text()
    text = page.partition("## Its options, as keys")[2].partition("\n## ")[0]
    file = tmp_path / "base.toml"
    losses = '[[losses]]\nname = "gan"\n[[losses]]\nname = "l1"\n'
    file.write_text(f'{losses}[data]\nname = "side_by_side"\nroot = "data"\n[optimizer]\nname = "adam"\n')
    rows = [keys for line in text.splitlines() if (keys := re.findall(r"`([a-z_0-9]+\.[a-z_0-9.]+ = [^`]+)`", line))]
    assert len(rows) > 12
    for keys in rows:
        outcome = p2pkit("show", file, *(word for key in keys for word in ("--set", key.replace(" = ", "="))))
        assert outcome.code == 0, outcome.err


def test_every_hook_is_documented() -> None:
    for name in dir(hookspecs):
        if name.startswith("register_"):
            assert getattr(hookspecs, name).__doc__


def test_the_examples_in_the_recipe_reference_are_valid(p2pkit: Call, tmp_path: Path) -> None:
    documents = ("docs/recipes.md", "docs/images.md", "docs/timm.md")
    for number, text in enumerate(text for document in documents for text in blocks(document, "toml")):
        file = tmp_path / f"{number}.toml"
        parents = {"base.toml": '[data]\nname = "procedural_facades"\n'}
        for name, content in parents.items():
            (tmp_path / name).write_text(content)
        file.write_text(text)
        outcome = p2pkit("show", file)
        assert outcome.code == 0, outcome.err


def test_the_example_of_training_from_python(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = recipe.read_text().replace("sample_every = 2", "sample_every = 1000")
    Path("shoes.toml").write_text(small.replace("checkpoint_every = 2", "checkpoint_every = 1000"))
    for name in ("1.png", "2.png"):
        save(Path(name), picture(20, 30, 1))
    names: dict[str, Any] = {}
    (example,) = blocks("docs/recipes.md", "python")
    exec(example, names)
    result = names["result"]
    assert result.step == 100 and result.best_step is None and "validation/mae" in result.metrics
    assert (Path("runs/shoes/first") / "model.safetensors").samefile(result.model_path)
    assert names["first"].size == names["second"].size == (30, 20)
    assert library.resume("runs/shoes/first").metrics == result.metrics


def test_the_readmes_example_in_python(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    example = blocks("README.md", "python")[1]
    assert '"recipes/quickstart.toml"' in example and (REPOSITORY / "recipes/quickstart.toml").is_file()
    exec(example.replace('"recipes/quickstart.toml"', repr(str(recipe))).replace("500", "2"), names)
    assert names["result"].step == 2 and names["result"].run_dir.parent == Path("runs/small")
    assert names["translate"].header.step == 2


def test_the_readmes_recipe_trains(p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("edges", "photos"):
        save(tmp_path / "datasets" / "shoes" / "train" / side / "1.png", picture(16, 16, 1))
    (tmp_path / "shoes.toml").write_text(blocks("README.md", "toml")[0])
    checked = p2pkit("check", "shoes.toml")
    assert checked.code == 0, checked.err
    assert "54.414 M parameters" in checked.out and "receptive field: 70" in checked.out
    small = ["transform.load_size=32", "transform.crop_size=32", "generator.depth=4", "generator.width=4"]
    settings = (word for setting in [*small, "train.epochs=1"] for word in ("--set", setting))
    outcome = p2pkit("run", "shoes.toml", *settings)
    assert outcome.code == 0, outcome.err
    (model,) = (tmp_path / "runs" / "shoes").glob("*/model.safetensors")
    save(tmp_path / "labels.png", picture(20, 30, 1))
    names: dict[str, Any] = {}
    exec(blocks("README.md", "python")[0].replace('"model.safetensors"', repr(str(model))), names)
    assert names["image"].size == (30, 20)


def test_the_examples_of_deployment(p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = untrained_model(tmp_path / "model.safetensors", "unet", depth=4, width=4)
    assert p2pkit("export", model, "--out", "model.onnx").code == 0
    assert p2pkit("export", model, "--format", "torch_program", "--out", "model.pt2").code == 0
    labels = save(tmp_path / "labels.png", picture(30, 41, 1))
    names: dict[str, Any] = {}
    for block in blocks("docs/deploy.md", "python"):
        exec(block, names)
    expected = np.asarray(library.load_model(model, "cpu", dropout=False)(labels), dtype=int)
    assert np.abs(np.asarray(Image.open("painted.png"), dtype=int) - expected).max() <= 1
    assert names["target"].shape == (1, 3, 200, 300)
    assert '"generator": "unet"' in names["about"]["p2pkit"]


def test_the_examples_of_evaluation(
    recipe: Path, pairs: Path, tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pairs / "test", pairs / "val")
    run, text = "runs/shoes/20260131-120000", (REPOSITORY / "docs" / "evaluation.md").read_text()
    train(p2pkit, recipe, Path(run))
    for folder, seed in (("outputs", 1), ("targets", 2)):
        save(Path(folder) / "1.png", picture(20, 30, seed))
    commands = re.findall(r"^    p2pkit (evaluate .*)$", text, re.MULTILINE)
    assert len(commands) == 3 and run in commands[0]
    Path("labels.toml").write_text('[data]\nname = "procedural_facades"\nsize = 32\npairs = 4\nval_pairs = 2\n')
    for command in commands:
        few = ["--steps", "2"] if "--fit-segmenter" in command else []
        outcome = p2pkit(*command.split(), *few)
        assert outcome.code == 0 and ("mae" in outcome.out or "ssim" in outcome.out or few), outcome.err
    assert Path("segmenter.safetensors").is_file()
    names: dict[str, Any] = {}
    (example,) = blocks("docs/evaluation.md", "python")
    exec(example, names)
    assert names["result"].facts["set"] == "val set" and names["worst"] in ("val/0.png", "val/1.png")


def test_the_example_of_volumes(tmp_path: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw, show = blocks("docs/volumes.md", "python")
    names: dict[str, Any] = {}
    exec(draw.replace("range(40)", "(0, 1, 36)"), names)
    (recipe,) = blocks("docs/volumes.md", "toml")
    Path("heads.toml").write_text(recipe.replace("max_steps = 700", "max_steps = 2"))
    text = (REPOSITORY / "docs" / "volumes.md").read_text()
    commands = re.findall(r"^    p2pkit (.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["run", "translate"]
    for command in commands:
        outcome = p2pkit(*command.split())
        assert outcome.code == 0, outcome.err
    exec(show, names)
    with Image.open("volumes.png") as made, Image.open(REPOSITORY / "docs" / "volumes.png") as shown:
        assert made.size == shown.size == (1024, 384)


@pytest.mark.parametrize("page", ["two_sources", "masks", "super_resolution"])
def test_the_pages_on_samples(page: str, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = f"docs/{page}.md"
    (code,), (recipe, *others) = blocks(document, "python"), blocks(document, "toml")
    assert "pairs=400, val_pairs=40" in code
    exec(code.replace("pairs=400, val_pairs=40", "pairs=4, val_pairs=2"), {})
    Path(f"{page}.toml").write_text(recipe)
    for other in others:
        Path("other.toml").write_text(other)
        outcome = p2pkit("show", "other.toml")
        assert outcome.code == 0, outcome.err
    commands = re.findall(r"^    p2pkit (.*)$", (REPOSITORY / document).read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["check", "run", "translate"]
    small = ("train.max_steps=2", "generator.width=4", "discriminator.width=4")
    for command in commands:
        settings = (word for setting in small * command.startswith("run") for word in ("--set", setting))
        outcome = p2pkit(*command.split(), *settings)
        assert outcome.code == 0, outcome.err
    assert sorted(file.name for file in Path("translated").glob("*.png")) == ["000.png", "001.png"]


def test_the_page_on_init(p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/init.md", "python")
    assert "range(400)" in code
    exec(code.replace("range(400)", "range(20)"), {})
    commands = re.findall(r"^    p2pkit (.*)$", (REPOSITORY / "docs" / "init.md").read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["init", "check", "run", "translate"]
    small = ("train.max_steps=2", "generator.width=4", "discriminator.width=4")
    for command in commands:
        settings = (word for setting in small * command.startswith("run") for word in ("--set", setting))
        outcome = p2pkit(*command.split(), *settings)
        assert outcome.code == 0, outcome.err
    assert len(list(Path("translated").glob("*.png"))) == 20 and Path("terrain.pairs.png").is_file()


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script, readme = ((REPOSITORY / name).read_text() for name in (".ci/run", "README.md"))
    pattern = re.search(r"sed -n 's/(.*)/\\1/p' README\.md", script)
    assert pattern is not None
    expression = pattern[1].replace(r"\(", "(").replace(r"\)", ")")
    assert re.findall(expression, readme, re.MULTILINE) == ["pip install -e '.[test]' && pytest -n logical"]


def test_the_example_of_resuming_with_changes(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("docs/starting_points.md", "python")
    monkeypatch.chdir(tmp_path)
    library.train(recipe, out="runs/shoes/first", device="cpu")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["result"].step == 120


def test_the_example_of_measuring_speed(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shoes.toml").write_text(recipe.read_text())
    names: dict[str, Any] = {}
    (example,) = blocks("docs/performance.md", "python")
    exec(example, names)
    assert names["found"].batch_size == 2 and names["found"].steps == 5
