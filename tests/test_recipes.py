"""Recipes: merging, overrides, origins, the frozen form, and errors that name all mistakes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from p2pkit.errors import RecipeError
from p2pkit.recipe.document import read_document
from p2pkit.recipe.resolve import read_recipe
from tests.conftest import REPOSITORY, Call

SHIPPED = sorted((REPOSITORY / "recipes").glob("*.toml"))


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.fixture
def child(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "base.toml",
        """
        [data]
        name = "procedural_facades"
        size = 64
        [generator]
        name = "unet"
        depth = 5
        width = 8
        [optimizer]
        lr = 1e-3
        betas = [0.4, 0.9]
        """,
    )
    return write(
        tmp_path,
        "child.toml",
        """
        extends = "base.toml"
        [generator]
        depth = 4
        [optimizer]
        betas = [0.1, 0.2]
        """,
    )


def test_tables_merge_and_lists_replace(child: Path) -> None:
    tables = read_document(child).tables
    assert tables["generator"] == {"name": "unet", "depth": 4, "width": 8}
    assert tables["optimizer"] == {"name": "adam", "lr": 1e-3, "betas": [0.1, 0.2]}


def test_a_new_name_drops_the_parents_parameters(child: Path) -> None:
    child.write_text('extends = "base.toml"\n[generator]\nname = "resnet"\nblocks = 2\n')
    assert read_document(child).tables["generator"] == {"name": "resnet", "blocks": 2}
    child.write_text('extends = "base.toml"\n[optimizer]\nname = "adamw"\n')
    assert read_document(child).tables["optimizer"] == {"name": "adamw"}
    overridden = read_document(child, ["generator.name=encoder_decoder"])
    assert overridden.tables["generator"] == {"name": "encoder_decoder"}


def test_show_says_where_each_key_is_from(child: Path, p2pkit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(child.parent)
    shown = p2pkit("show", child, "--set", "optimizer.lr=5e-4").out
    assert "depth = 4 # child.toml" in shown
    assert "width = 8 # base.toml" in shown
    assert "lr = 0.0005 # --set optimizer.lr=5e-4" in shown
    assert "dropout = 0.5 # default" in shown


def test_the_resolved_recipe_resolves_to_itself(child: Path, tmp_path: Path) -> None:
    resolved = read_recipe(child, ["optimizer.discriminator.lr=1e-5"]).toml()
    again = read_recipe(write(tmp_path, "resolved.toml", resolved)).toml()
    assert again == resolved
    assert tomllib.loads(resolved)["optimizer"]["discriminator"]["lr"] == 1e-5


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.epochs=5", ("train", "epochs"), 5),
        ("generator.norm=instance", ("generator", "norm"), "instance"),
        ('generator.norm="instance"', ("generator", "norm"), "instance"),
        ("transform.crop_size=[16, 32]", ("transform", "crop_size"), [16, 32]),
        ("losses.1.weight=7", ("losses", 1, "weight"), 7.0),
    ],
)
def test_overrides_are_toml(override: str, key: tuple[str | int, ...], value: object, recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + '\n[[losses]]\nname = "gan"\n[[losses]]\nname = "l1"\nweight = 100\n')
    found: object = read_recipe(recipe, [override]).tables()
    for part in key:
        found = found[part]  # type: ignore[index]
    assert found == value


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path, "base.toml", '[data]\nname = "procedural_facades"\n[train]\nepochs = "many"\n')
    file = write(
        tmp_path,
        "wrong.toml",
        """
        extends = "base.toml"
        [generater]
        [generator]
        name = "unett"
        [discriminator]
        widht = 3
        width = 0
        [loader]
        batch_size = 2.5
        [[losses]]
        name = "l1"
        weight = "heavy"
        [transform]
        crop_size = [1, 2, 3]
        [optimizer.generator]
        name = "adamm"
        [train]
        max_time = "5 minutes"
        """,
    )
    with pytest.raises(RecipeError) as error:
        read_recipe(file)
    lines = {line.split(": ")[1]: line for line in str(error.value).splitlines() if ".toml: " in line}
    assert "did you mean 'generator'?" in lines["generater"]
    assert "did you mean 'unet'?" in lines["generator.name"]
    assert "did you mean 'width'?" in lines["discriminator.widht"]
    assert "found 0, expected a whole number from 1 on" in lines["discriminator.width"]
    assert "found 2.5, expected a whole number from 1 on" in lines["loader.batch_size"]
    assert "found 'heavy'" in lines["losses.0.weight"]
    assert "transform.crop_size" in lines
    assert "did you mean 'adam'?" in lines["optimizer.generator.name"]
    assert "found 'many'" in lines["train.epochs"] and "base.toml: " in lines["train.epochs"]
    assert '"5m"' in lines["train.max_time"] and "wrong.toml: " in lines["train.max_time"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data\n", "not valid TOML"),
        ('extends = "missing.toml"\n', "missing.toml: there is no such recipe file"),
        ('extends = "self.toml"\n', "extends goes in a circle"),
        ("extends = 3\n", "expected the path of one recipe file"),
        ("", "data: missing; expected a table with a name, one of: cityscapes"),
        ("data = 3\n", "data: found 3, expected a table with a name"),
        ('[data]\nname = "side_by_side"\n', "data.root: missing"),
        ('[data]\nname = "procedural_facades"\n[optimizer]\nname = 3\n', "optimizer: found {'name': 3}"),
        ('[data]\nname = "procedural_facades"\n[optimizer.critic]\nlr = 1.0\n', "optimizer.critic: no network"),
        ('losses = []\n[data]\nname = "procedural_facades"\n', "losses: the list is empty"),
        ('losses = "l1"\n[data]\nname = "procedural_facades"\n', "losses: found 'l1', expected a list"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, message: str, tmp_path: Path, p2pkit: Call) -> None:
    outcome = p2pkit("show", write(tmp_path, "self.toml", text))
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("override", ["train", "=5", "train.epochs.more=1", "losses.9.weight=1", "train.epochs=many"])
def test_overrides_that_cannot_be(override: str, recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("show", recipe, "--set", "train.epochs=2", "--set", override)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err and "Error: " in outcome.err


def test_schema_takes_the_shipped_recipes_and_refuses_wrong_ones(p2pkit: Call) -> None:
    schema = p2pkit("schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    for file in SHIPPED:
        jsonschema.validate(tomllib.loads(file.read_text()), schema)
    for wrong in (
        {"genrator": {}},
        {"train": {"epoch": 1}},
        {"generator": {"name": "unett"}},
        {"generator": {"name": "unet", "dpeth": 1}},
        {"losses": [{"name": "l1", "weight": -1}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_recipes_check(file: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome, said = p2pkit("check", file), {"PROCEDURAL FACADES", "NOT THERE"}
    assert outcome.code == 0, outcome.err
    assert "receptive field: 70 pixels" in outcome.out
    found = {each for each in said if each in outcome.out}
    assert len(found) == (file.stem not in ("quickstart", "ablation_facades")), "these two draw their data"
    if found:
        sizes = ("2.769 M", "2.767 M", "2.766 M")  # of the discriminator: RGB to RGB, gray to RGB, L to ab
        assert any(each in outcome.out for each in sizes), "without its data, the networks are the paper's"
        how = ("p2pkit data fetch RECIPE", "register at", "put ", "Put ")
        assert any(each in " ".join(outcome.out.split()) for each in how)
    assert list(tmp_path.iterdir()) == []


def test_components_as_json_for_every_kind(p2pkit: Call) -> None:
    described = p2pkit("components", "--json").json
    assert {"unet", "patchgan_70", "gan", "facades", "pix2pix", "mae"} <= {component["name"] for component in described}
    for component in described:
        assert component["documentation"], f"{component['name']} has no documentation"
        assert Path(component["file"]).is_file() and component["line"] > 0
        assert json.dumps(component["parameters"])


@pytest.mark.parametrize(
    ("text", "renamed", "now"),
    [
        ('[evaluation]\nbaseline = "none"\n', "evaluation", "validation"),
        ("[evaluation]\nmax_pairs = 5\n", "evaluation.max_pairs", "validation.max_images"),
        ("[validation]\nmax_pairs = 5\n", "validation.max_pairs", "validation.max_images"),
        ("[train]\naverage_decay = 0.5\n", "train.average_decay", "train.ema_decay"),
    ],
)
def test_an_old_name_is_refused_with_the_present_one(
    text: str, renamed: str, now: str, tmp_path: Path, p2pkit: Call
) -> None:
    file = write(tmp_path, "old.toml", f'[data]\nname = "procedural_facades"\n{text}')
    outcome = p2pkit("show", file)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert f"{file}: {renamed}: it is called {now} now" in outcome.err


@pytest.mark.parametrize(
    ("override", "now"),
    [
        ("evaluation.every=5", "validation"),
        ("validation.max_pairs=5", "validation.max_images"),
        ("train.average_decay=0.5", "train.ema_decay"),
    ],
)
def test_an_old_name_in_an_override_is_refused_with_the_present_one(
    override: str, now: str, recipe: Path, p2pkit: Call
) -> None:
    outcome = p2pkit("show", recipe, "--set", override)
    assert outcome.code == 2 and f"it is called {now} now" in outcome.err and "Traceback" not in outcome.err


def test_an_unknown_section_is_said_to_come_from_the_override(recipe: Path, p2pkit: Call) -> None:
    outcome = p2pkit("show", recipe, "--set", "trian.max_steps=3")
    assert outcome.code == 2
    assert "--set trian.max_steps=3: trian: unknown section; did you mean 'train'?" in outcome.err
