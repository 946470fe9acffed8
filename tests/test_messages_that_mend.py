"""Mistakes in recipes and on the command line: each message names a change, which is made here and mends it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from p2pkit.components.own_plugins import PROVIDED
from tests.conftest import REPOSITORY, Call, picture, save

PLUGINS = REPOSITORY / "plugins"
PYDANTIC = ("Input should", "valid integer", "valid array", "valid string", "valid number", "or equal to", "; or found")
"""Pieces of another library's messages."""

GENERATOR = "[generator]\ndepth = 3\nwidth = 4\n"
DISCRIMINATOR = '[discriminator]\nname = "patchgan_16"\nwidth = 4\n'
LOSS = '[[losses]]\nname = "l1"\n'
IN_FRONT = '[run]\nname = "small"\n'

MISTAKES = [
    ("crop_size = 16", 'crop_size = "16"', "transform.crop_size: found '16', expected a whole number from 1 on, or "
     "[height, width]; write crop_size = 16 without quotes"),
    ("crop_size = 16", "crop_size = 16.0", "transform.crop_size: found 16.0, expected a whole number from 1 on"),
    ("crop_size = 16", "crop_size = [16]", "transform.crop_size: found [16], expected a whole number from 1 on"),
    ("crop_size = 16", 'crop_size = ["16", "16"]', "write crop_size = [16, 16]"),
    ("flip = true", 'flip = "True"', "transform.flip: found 'True', expected true or false; write flip = true"),
    ("flip = true", "flip = True", "not valid TOML: Invalid value (at line 16, column 8); write flip = true"),
    ('name = "small"', "name = small", 'not valid TOML: Invalid value (at line 3, column 8); write name = "small"'),
    ("crop_size = 16", "crop_sise = 16", "transform.crop_sise: unknown key; did you mean 'crop_size'?; allowed: crop_"),
    ("max_steps = 4", "max_step = 4", "train.max_step: unknown key; did you mean 'max_steps'?"),
    ("max_steps = 4", "max_steps = 4\nbatch_size = 2", "unknown key; write batch_size = 2 below [loader]"),
    ("max_steps = 4", "max_steps = 4\nlr = 1e-4", "train.lr: unknown key; write lr = 0.0001 below [optimizer]"),
    ("[train]\n", "[optimizer]\nlearning_rate = 1e-4\n[train]\n", "write lr = 0.0001 below [optimizer]"),
    ("[train]\n", "[optimizer]\nbeta1 = 0.5\n[train]\n", "write betas = [0.5, 0.999] below [optimizer]"),
    ("[train]\n", "[optimizer]\nbetas = ['0.5', 0.9]\n[train]\n", "optimizer.betas.0: found '0.5', expected a "
     "float from 0 to below 1; write betas = [0.5, 0.9]"),
    ("crop_size = 16", "crop_size = 16\nfineSize = 8", "transform.fineSize: unknown key; write crop_size = 8 below"),
    (IN_FRONT, "epochs = 1\n" + IN_FRONT, "epochs: unknown key, above all sections; write epochs = 1 below [train]"),
    (IN_FRONT, "lambda_L1 = 10\n" + IN_FRONT + LOSS, 'write weight = 10 below [[losses]], under name = "l1"'),
    (GENERATOR, LOSS + "wieght = 10\n" + GENERATOR, "unknown key; did you mean 'weight'?; allowed: weight"),
    (GENERATOR, LOSS + 'weight = "10"\n' + GENERATOR, "losses.0.weight: found '10', expected a float from 0 on; write"),
    (GENERATOR, LOSS.replace("[[", "[").replace("]]", "]") + GENERATOR, "write [[losses]] in place of [losses]"),
    (GENERATOR, "[" + GENERATOR.replace("]", "]]"), "write [generator] in place of [[generator]]"),
    ("[train]", "[[train]]", "expected a table; write [train] in place of [[train]]"),
    (IN_FRONT, 'generator = "resnet"\n' + IN_FRONT, 'write [generator], and below it name = "resnet"'),
    (IN_FRONT, 'metrics = ["mae"]\n' + IN_FRONT, 'metrics.0: found \'mae\', expected a table with a name'),
    ("depth = 3", 'depth = 3\nnorm = "instanse"', "expected one of: \"batch\", \"instance\", \"none\"; did you mean"),
    ("depth = 3", 'depth = 3\nnorm = "Instance"', 'generator.norm: found \'Instance\', expected one of: "batch'),
    ("patchgan_16", "patchgan_160", "discriminators: nothing is called 'patchgan_160'; did you mean 'patchgan_16'?"),
    ("patchgan_16", "patchgan_70", "discriminator: 3 strided layers take images of 24 pixels or more on each side, and "
     'these have 16; write name = "patchgan" and layers = 2 below [discriminator]'),
    ("crop_size = 16", "crop_size = 4\n", 'write name = "patchgan_1" below [discriminator]'),
    ("log_every = 1", 'log_every = 1\nmax_time = 5\n', 'expected a duration such as "90s", "5m" or "1h30m"'),
    ("checkpoint_every = 2", "checkpoint_every = [2]", 'a whole number from 1 on, or a text such as "5 epochs"; write'),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES, ids=[wrong.strip() for _, wrong, _ in MISTAKES])
def test_the_change_that_a_message_names_makes_it_work(
    right: str, wrong: str, said: str, recipe: Path, p2pkit: Call
) -> None:
    correct = recipe.read_text()
    assert correct.count(right) == 1
    for part, instead in {"crop_size = 4": ("depth = 3", "depth = 2"), "generator = ": (GENERATOR, "")}.items():
        if part in wrong:  # a deeper network refuses such crops before; a section is there once
            correct = correct.replace(*instead)
    recipe.write_text(correct.replace(right, wrong))
    refused = p2pkit("check", recipe)
    assert refused.code == 2 and said in refused.err, refused.err
    assert "Traceback" not in refused.err and not any(phrase in refused.err for phrase in PYDANTIC)
    recipe.write_text(mended(recipe.read_text(), refused.err))
    accepted = p2pkit("check", recipe)
    assert accepted.code == 0, f"{refused.err}{recipe.read_text()}{accepted.err}"


def mended(text: str, message: str) -> str:
    """A recipe with the change that ``message`` names, which is taken from its words alone."""
    if line := re.search(r"at line (\d+), column \d+\); write (.+)", message):
        lines = text.splitlines()
        lines[int(line[1]) - 1] = line[2]
        return "\n".join(lines)
    if header := re.search(r"write (\S+) in place of (\S+)\n", message):
        return text.replace(header[2], header[1])
    key = re.search(r"(?:small\.toml|Error): (?:\S+: )?([\w.]+): ", message)
    assert key is not None, message
    tables, place = tomlkit.parse(text).unwrap(), key[1].split(".")
    while place[-1].isdigit():
        place.pop()
    if "unknown key" in message:
        wrong = holder(tables, place).pop(place[-1])
    if headed := re.search(r'write (\[+)(\w+)\]+, and below it (name = ".+")', message):
        section = tomllib.loads(headed[3])
        tables[headed[2]] = section if headed[1] == "[" else [section]
    elif below := re.search(r'write (.+?) below (\[+)(\w+)\]+(?:, under name = "(\w+)")?', message):
        values = tomllib.loads(below[1].replace(" and ", "\n"))
        section = tables.setdefault(below[3], {}) if below[2] == "[" else named(tables[below[3]], below[4])
        if "name" in values:
            section.clear()
        section.update(values)
    elif value := re.search(r"write (\w+ = .+?)(?: without quotes)?\n", message):
        holder(tables, place).update(tomllib.loads(value[1]))
    elif guess := re.search(r"did you mean '(.+?)'", message):
        if "unknown key" in message:
            holder(tables, place)[guess[1]] = wrong
        else:
            holder(tables, place)[place[-1]] = guess[1]
    else:
        example = re.search(r'such as "(.+?)"', message)
        assert example is not None, message
        holder(tables, place)[place[-1]] = example[1]
    return tomlkit.dumps(tables)


def holder(tables: dict[str, Any], place: list[str]) -> dict[str, Any]:
    """The table that the key at ``place`` stands in."""
    found: Any = tables
    for part in place[:-1]:
        found = found[int(part)] if isinstance(found, list) else found[part]
    assert isinstance(found, dict)
    return found


def named(tables: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(table for table in tables if table["name"] == name)


def test_a_plugin_of_this_project_is_named_where_it_is_not_installed(recipe: Path, p2pkit: Call) -> None:
    for arguments in (("show", "earth:relief_to_satellite"), ("show", recipe, "--set", "generator.name=hd_global")):
        missing = p2pkit(*arguments)
        assert missing.code == 2
        remedy = re.search(r"pip install plugins/(p2pkit-\w+), or give (--plugins-dir plugins) before", missing.err)
        assert remedy is not None and (PLUGINS / remedy[1]).is_dir(), missing.err
        option, folder = remedy[2].split()
        installed = p2pkit(option, REPOSITORY / folder, *arguments)
        assert installed.code == 0, installed.err


def test_the_plugins_of_this_project_provide_what_messages_say(p2pkit: Call) -> None:
    found: dict[str, list[str]] = {}
    for component in p2pkit("--plugins-dir", PLUGINS, "components", "--json").json:
        if component["distribution"] != "p2pkit":
            found.setdefault(component["distribution"].removeprefix("p2pkit-"), []).append(component["name"])
    found["webdataset"].append("shard")
    found["web"] = ["serve", "study"]
    assert {plugin: tuple(sorted(names)) for plugin, names in found.items()} == PROVIDED


def test_options_of_the_program_stand_before_the_command(recipe: Path, p2pkit: Call) -> None:
    misplaced = p2pkit("check", recipe, "--plugins-dir", PLUGINS)
    assert misplaced.code == 2
    assert "--plugins-dir stands before the command: p2pkit --plugins-dir DIR check\n" in misplaced.err
    assert p2pkit("--plugins-dir", PLUGINS, "check", recipe).code == 0


def test_unpaired_sides_of_two_sizes_are_refused_with_one(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    for folder, side in (("trainA", 16), ("trainB", 32)):
        for index in range(2):
            save(tmp_path / "unpaired" / folder / f"{folder}{index}.png", picture(side, side, seed=index + side))
    data = f'name = "unpaired_folders"\nroot = "{tmp_path / "unpaired"}"\n[loader]'
    text = re.sub(r'name = "side_by_side"\nroot = ".*"\n\n\[loader\]', lambda _: data, recipe.read_text())
    recipe.write_text(re.sub("load_size = 20\ncrop_size = 16\n", "", text))
    refused = p2pkit("check", recipe)
    assert refused.code == 2 and "differ in size (height x width), 16x16 and 32x32" in refused.err
    recipe.write_text(mended(recipe.read_text(), refused.err.replace("Error:", "Error: data:")))
    assert p2pkit("check", recipe).code == 0
