"""Names that are not UTF-8, paths of other systems, recipes as editors save them: through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import p2pkit as library
from tests.conftest import Call, Outcome, lines, picture, save, train

ODD = os.fsdecode(b"caf\xe9 \xff")
"""A name that is not UTF-8, as Python has it."""
KEY = r"caf\xe9 \xff"


@pytest.fixture
def odd(tmp_path: Path, recipe: Path) -> Path:
    """A data set of every layout whose files' names are not UTF-8, and paired_folders in the recipe."""
    root = tmp_path / "odd"
    for split, count in (("train", 4), ("test", 2)):
        for index in range(count):
            source = picture(24, 24, index + 50 * (split == "test"))
            save(root / split / "source" / f"{ODD}{index}.png", source)
            save(root / split / "target" / f"{ODD}{index}.png", 255 - source)
            save(root / "beside" / split / f"{ODD}{index}.png", np.concatenate([source, 255 - source], axis=1))
    old = recipe.read_text()
    data = f'[data]\nname = "paired_folders"\nroot = "{root}"\n'
    recipe.write_text(old[: old.index("[data]")] + data + old[old.index("[loader]") :])
    return root


def program(*arguments: object, encoding: str = "utf-8") -> Outcome:
    """The program in a process of its own, whose terminal has an encoding."""
    done = subprocess.run(
        [sys.executable, "-m", "p2pkit", *map(os.fspath, map(str, arguments))],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout.decode(encoding, "replace"), done.stderr.decode(encoding))


@pytest.mark.parametrize("name", ["paired_folders", "side_by_side", "unpaired_folders"])
def test_all_commands_take_names_that_are_not_utf_8(
    name: str, odd: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    root = odd / "beside" if name == "side_by_side" else odd
    chosen = ("--set", f'data={{name = "{name}", root = "{root}"}}')
    checked = p2pkit("check", recipe, *chosen)
    assert checked.code == 0, checked.err
    assert p2pkit("data", "check", recipe, *chosen).code == 0
    outcome = p2pkit("run", recipe, *chosen, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert list((tmp_path / "run" / "samples").iterdir())
    assert p2pkit("run", recipe, *chosen, "--out", tmp_path / "again").code == 0  # from the cache of headers
    if name != "unpaired_folders":
        evaluated = p2pkit("evaluate", tmp_path / "run", "--json")
        assert evaluated.code == 0 and f"{KEY}0.png" in json.dumps(evaluated.json, ensure_ascii=False).replace(
            "\\\\", "\\"
        )
    out = tmp_path / "out"
    translated = p2pkit("translate", tmp_path / "run", odd / "test" / "source", "--out", out)
    assert translated.code == 0, translated.err
    assert sorted(out.glob("*.png")) == [out / f"{ODD}0.png", out / f"{ODD}1.png"]


def test_what_is_trained_on_does_not_depend_on_names(odd: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    for file in sorted(odd.rglob("*.png")):
        file.rename(file.with_name(file.name.replace(ODD, "cafe")))
    plain = train(p2pkit, recipe, tmp_path / "plain")
    assert lines(run) == lines(plain)
    one, other = (load_file(folder / "model.safetensors") for folder in (run, plain))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_that_cannot_show_a_name(encoding: str, odd: Path, recipe: Path, tmp_path: Path) -> None:
    save(odd / "test" / "source" / "日本.png", picture(24, 24, 70))
    save(odd / "test" / "target" / "日本.png", picture(24, 24, 71))
    for arguments in (
        ("check", recipe),
        ("run", recipe, "--out", tmp_path / "名"),
        ("evaluate", tmp_path / "名"),
        ("translate", tmp_path / "名", odd / "test" / "source", "--out", tmp_path / f"out {ODD}"),
    ):
        outcome = program(*arguments, encoding=encoding)
        assert outcome.code == 0 and "Traceback" not in outcome.err, outcome.err
    assert len(list((tmp_path / f"out {ODD}").glob("*.png"))) == 3


def test_a_damaged_file_is_named_and_skipped(odd: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    (odd / "train" / "source" / f"{ODD}1.png").write_bytes(b"\x89PNG")
    stopped = p2pkit("run", recipe, "--out", tmp_path / "stopped")
    assert stopped.code == 2 and "1 of 6 pairs cannot be used" in stopped.err
    outcome = p2pkit("run", recipe, "--out", tmp_path / "run", "--set", "loader.bad_data=skip")
    assert outcome.code == 0 and len((tmp_path / "run" / "bad_data.jsonl").read_text().splitlines()) == 1
    assert p2pkit("run", "--resume", tmp_path / "run").code == 0


def test_keys_of_other_peoples_data_sets_can_be_printed(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    source = tmp_path / "p2pkit-unprintable"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[project]\nname = "p2pkit-unprintable"\nversion = "1"\n'
        '[project.entry-points.p2pkit]\nodd = "unprintable_keys"\n'
    )
    (source / "unprintable_keys.py").write_text(
        "import numpy, p2pkit\nfrom p2pkit.contracts import SampleHeader, Split\n"
        "class Odd:\n"
        "    def __init__(self, split: Split): self.split = split\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, index):\n"
        "        image = numpy.full((24, 24, 3), 9 * index, 'uint8')\n"
        "        return p2pkit.Sample(image, image, f'{self.split}/\\udce9{index}')\n"
        "    def header(self, index): return SampleHeader((24, 24, 3), (24, 24, 3), f'{self.split}/\\udce9{index}')\n"
        "    def fingerprint(self): return 'odd'\n"
        "@p2pkit.hookimpl\ndef register_datasets(register): register('unprintable', Odd)\n"
    )
    chosen = ("--set", 'data={name = "unprintable"}')
    outcome = p2pkit("--plugins-dir", tmp_path, "run", recipe, *chosen, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    data = library.load_data(recipe, {"data": {"name": "unprintable"}})
    assert data.train[1].key == data.train.header(1).key == r"train/\xe91"  # type: ignore[attr-defined]


def refused(outcome: Outcome, *words: str) -> None:
    """One sentence, and not a traceback."""
    assert outcome.code == 2 and "Traceback" not in outcome.err and len(outcome.said) == 1, outcome.err
    for each in words:
        assert each in outcome.err, outcome.err


@pytest.mark.parametrize("text", [f"data.root={ODD}", f"data.source={ODD}", f"run.name={ODD}"])
def test_recipes_hold_no_names_that_are_not_utf_8(text: str, odd: Path, recipe: Path, p2pkit: Call) -> None:
    refused(p2pkit("check", recipe, "--set", text), "expected a text in UTF-8")


def test_folders_around_that_are_not_utf_8(
    odd: Path, recipe: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ODD).mkdir()
    odd.rename(tmp_path / ODD / "odd")
    monkeypatch.chdir(tmp_path / ODD)
    for command in ("check", "run"):
        refused(p2pkit(command, recipe, "--set", "data.root=odd"), "in UTF-8", "make a link")
    (tmp_path / "link").symlink_to(tmp_path / ODD / "odd")
    assert p2pkit("check", recipe, "--set", f"data.root={tmp_path}/link").code == 0


def test_models_are_not_written_where_they_cannot_be_read(
    odd: Path, recipe: Path, p2pkit: Call, tmp_path: Path
) -> None:
    outcome = p2pkit("run", recipe, "--out", tmp_path / ODD)
    assert outcome.code == 2 and "the path of a run folder must be in UTF-8" in outcome.err.splitlines()[-1]
    assert not (tmp_path / ODD).exists()
    run = train(p2pkit, recipe, tmp_path / "run").rename(tmp_path / ODD)
    refused(p2pkit("run", "--resume", run), "the path of a run folder must be in UTF-8")
    out = ("--out", tmp_path / "out")
    refused(p2pkit("translate", run / "model.safetensors", odd / "test/source", *out), "path of a model file must be")
    refused(p2pkit("evaluate", run / "samples", odd / "test/target"), "expected a path or a text in UTF-8")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('data.root="a\\u0000b"', "expected a path without NUL"),
        (f"data.root={'a' * 300}", "expected a path that can be looked up (File name too long)"),
        ("data.root=~nobody_of_that_name/x", "expected a path whose ~ stands for the home folder of somebody known"),
        ('data.root="C:\\data"', "a backslash in double quotes begins an escape"),
        ('data.root="C:\\new\\train"', "in double quotes \\t, \\n and the like are no backslashes"),
        ("data.root='C:\\data'", "here a backslash is a part of a name, and nothing is called so"),
        ("metrics=[{name = 'lpips', weights = '~nobody_of_that_name/w'}]", "metrics.0.weights: found"),
    ],
)
def test_paths_that_cannot_be(setting: str, words: str, recipe: Path, p2pkit: Call) -> None:
    refused(p2pkit("check", recipe, "--set", setting), words)


@pytest.mark.parametrize("parent", ['"a\\u0000b"', f'"{"a" * 300}"', '"~nobody_of_that_name/x"', "'none\\x.toml'"])
def test_parents_that_cannot_be(parent: str, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    (tmp_path / "child.toml").write_text(f"extends = {parent}\n")
    refused(p2pkit("check", tmp_path / "child.toml"), "expected a path")


def test_home_folders_in_every_path(
    recipe: Path, pairs: Path, p2pkit: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "child.toml").write_text('extends = "~/small.toml"\n[data]\nroot = "~/pairs"\n')
    checked = p2pkit("check", tmp_path / "child.toml")
    assert checked.code == 0 and "6 training pairs" in checked.out, checked.err
    assert p2pkit("check", recipe, "--set", "data.root=~/pairs").code == 0
    assert f'root = "{pairs}"' in p2pkit("show", tmp_path / "child.toml").out
    assert len(library.load_data("~/small.toml").train) == 6
    data = {"name": "paired_folders", "root": "~/", "source": "~/pairs/test", "target": "~/pairs/train"}
    found = library.load_data(recipe, {"data": data, "loader.bad_data": "skip"})
    assert [found.train[index].key for index in range(2)] == ["pairs/test/0.png", "pairs/test/1.png"]


def test_windows_paths_are_taken_where_that_is_there(recipe: Path, pairs: Path, p2pkit: Call, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    recipe.rename(tmp_path / "sub" / "base.toml")
    root = str(pairs).replace("/", "\\")
    (tmp_path / "child.toml").write_text(f"extends = 'sub\\base.toml'\n[data]\nroot = '{root}'\n")
    checked = p2pkit("check", tmp_path / "child.toml")
    assert checked.code == 0 and "6 training pairs" in checked.out, checked.err
    named = tmp_path / r"with\backslash"
    pairs.rename(named)
    assert p2pkit("check", tmp_path / "child.toml", "--set", f"data.root='{named}'").code == 0


def test_recipes_as_editors_save_them(recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    text = recipe.read_text()
    shown = p2pkit("show", recipe).out
    for name, data in (("bom", text.encode("utf-8-sig")), ("crlf", text.replace("\n", "\r\n").encode())):
        file = tmp_path / name / "small.toml"
        file.parent.mkdir()
        file.write_bytes(data)
        assert p2pkit("show", file).out == shown.replace(str(recipe), str(file))
        (tmp_path / name / "child.toml").write_bytes(b'\xef\xbb\xbfextends = "small.toml"\r\n')
        assert p2pkit("check", tmp_path / name / "child.toml").code == 0
    ran = p2pkit("run", tmp_path / "bom" / "small.toml", "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    for encoding, words in (("utf-16", "in UTF-16"), ("utf-16-le", "in UTF-16"), ("latin-1", "not in UTF-8")):
        (tmp_path / "other.toml").write_bytes(f"# Straße\n{text}".encode(encoding))
        refused(p2pkit("check", tmp_path / "other.toml"), words, "save it as UTF-8")
