"""A study is made of runs and folders that have the same images, or is refused in a sentence that says why not."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from study_sessions import SHORT, folder_of, study_in

from p2pkit import Translator, load_model
from p2pkit import train as train_from_python
from p2pkit.errors import P2PKitError
from p2pkit.images.reading import read_image
from p2pkit_web.study.folder import Settings, Study, read_study
from p2pkit_web.study.making import make
from p2pkit_web.study.trials import plan
from tests.conftest import Call, picture, save, train


def test_of_runs_the_test_set_is_translated_as_translate_does(p2pkit: Call, recipe: Path, tmp_path: Path) -> None:
    run = train(p2pkit, recipe, tmp_path / "run")
    outputs = folder_of(tmp_path / "other", 2)
    given = {"trained": str(run), "other": str(outputs)}
    make(tmp_path / "study", given, None, Settings(0, 1, 1), lambda named: load_model(named, "cpu"))
    study = read_study(tmp_path / "study")
    assert list(study.methods) == ["trained", "other"] and study.keys == ("0", "1") == study.real
    assert p2pkit("translate", run, "--split", "test", "--out", tmp_path / "translated", "--device", "cpu").code == 0
    for key in study.keys:
        translated = read_image(tmp_path / "translated" / "test" / f"{key}.png")
        assert np.array_equal(read_image(study.image("trained", key)), translated)
        assert np.array_equal(read_image(study.image(None, key)), 255 - picture(24, 24, 100 + int(key)))
        assert np.array_equal(read_image(study.image("other", key)), read_image(outputs / f"{key}.png"))


def test_runs_of_different_data_are_refused(p2pkit: Call, recipe: Path, pairs: Path, tmp_path: Path) -> None:
    runs = {name: str(train(p2pkit, recipe, tmp_path / name)) for name in ("one", "other")}
    whole = np.concatenate([picture(24, 24, 100), picture(24, 24, 5)], axis=1)

    def load(named: str) -> Translator:
        if named == runs["other"]:
            save(pairs / "test" / "0.png", whole)
        return load_model(named, "cpu")

    with pytest.raises(P2PKitError, match="other: the real image of 0 is not that of the other runs"):
        make(tmp_path / "study", runs, None, Settings(0, 1, 1), load)


NETWORKS = {"generator": {"name": "unet", "depth": 3, "width": 4}, "discriminator": {"name": "patchgan", "layers": 1}}


def test_colours_are_shown_with_their_lightness(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            for side in ("source", "target"):
                save(tmp_path / split / side / f"{number}.png", picture(32, 32, number))
    data = {"name": "paired_folders", "root": str(tmp_path)}
    sides = {"source": {"channels": "lab_L"}, "target": {"channels": "lab_ab"}}
    losses = [{"name": "gan"}, {"name": "l1", "weight": 100.0}]
    recipe = {**NETWORKS, "data": data, **sides, "losses": losses, "train": {"max_steps": 1}}
    run = train_from_python(recipe, out=tmp_path / "run", device="cpu").run_dir
    study = make(tmp_path / "study", {"run": str(run)}, None, Settings(0, 1, 1), lambda named: load_model(named, "cpu"))
    for key in study.keys:
        assert np.array_equal(read_image(study.image(None, key)), picture(32, 32, int(key)))
        output = np.asarray(load_model(run, "cpu")(tmp_path / "test" / "source" / f"{key}.png"))
        assert np.array_equal(read_image(study.image("run", key)), output)


def test_of_unpaired_data_different_images_are_paired(tmp_path: Path) -> None:
    for side, prefix in (("source", "s"), ("target", "t")):
        for split in ("train", "test"):
            for number in range(3):
                save(tmp_path / split / side / f"{prefix}{number}.png", picture(32, 32, number))
    data = {"name": "unpaired_folders", "root": str(tmp_path)}
    recipe = {**NETWORKS, "data": data, "losses": [{"name": "gan"}], "train": {"max_steps": 1}}
    run = str(train_from_python(recipe, out=tmp_path / "run", device="cpu").run_dir)
    with pytest.raises(P2PKitError, match="give --pairing different"):
        make(tmp_path / "no", {"run": run}, None, Settings(0, 1, 1), lambda named: load_model(named, "cpu"))
    settings = Settings(0, 1, 1, pairing="different")
    study = make(tmp_path / "study", {"run": run}, None, settings, lambda named: load_model(named, "cpu"))
    assert (study.keys, study.real) == (("s0", "s1", "s2"), ("t0", "t1", "t2"))
    assert np.array_equal(read_image(study.image(None, "t2")), picture(32, 32, 2))
    assert all(trial.fake[0] == "s" and trial.real[0] == "t" for trial in plan(study, 1))


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("keys", "light has no 7 and dark has no 8"),
        ("size", "3: this image is 32x24 (height x width) in light and 24x24 in dark"),
        ("real", "5 of the methods' images has no real image"),
        ("few", "a session shows 1 + 40 + 1 pairs, each of another image, and there are 8"),
        ("taken", "something else is there"),
        ("nothing", "holds no images"),
        ("alike", "are both called '1'"),
    ],
)
def test_what_is_not_the_same_is_refused(what: str, expected: str, tmp_path: Path) -> None:
    folder_of(tmp_path / "dark"), folder_of(tmp_path / "light")
    settings = SHORT
    if what == "keys":
        (tmp_path / "light" / "7.png").rename(tmp_path / "light" / "8.png")
        (tmp_path / "light" / "8.png").touch()
    elif what == "size":
        save(tmp_path / "light" / "3.png", picture(32, 24, 3))
    elif what == "real":
        folder_of(tmp_path / "real")
        (tmp_path / "real" / "5.png").unlink()
    elif what == "few":
        settings = Settings(practice=1, checks=1)
    elif what == "taken":
        save(tmp_path / "study" / "mine.png", picture(8, 8, 0))
    elif what == "nothing":
        (tmp_path / "light").rename(tmp_path / "elsewhere")
        (tmp_path / "light").mkdir()
    elif what == "alike":
        save(tmp_path / "dark" / "1.jpg", picture(24, 24, 1))
    real = tmp_path / "real"
    if what != "real":
        folder_of(real, 9)
    with pytest.raises(P2PKitError) as error:
        given = {"dark": str(tmp_path / "dark"), "light": str(tmp_path / "light")}
        make(tmp_path / "study", given, real, settings, load=lambda named: None)  # type: ignore[arg-type,return-value]
    assert expected in str(error.value)
    assert [file.name for file in tmp_path.glob(".study*")] == [] and not (tmp_path / "study" / "study.json").exists()


def test_what_the_command_is_given_is_checked(program: Call, tmp_path: Path) -> None:
    study_in(tmp_path)
    folders, out = [tmp_path / "dark", tmp_path / "light"], ("--out", tmp_path / "study")
    for arguments, expected in (
        ([*out, "--seconds", "2"], "the study there has seconds = 0.5, not 2.0"),
        ([*out, "third=" + str(folders[0])], "the study there has methods ="),
        (["--out", tmp_path / "new", *folders], "give --real FOLDER"),
        (["--out", tmp_path / "new", f"a={folders[0]}", f"a={folders[1]}"], "two are called 'a'"),
        (["--out", tmp_path / "new"], "there is no study in this folder"),
        ([*out, "--results", "--trials", "3"], "leave out what one is made of"),
        ([*out, "--json"], "give that too"),
        ([*out, "--token", "short"], "8 to 200 letters"),
    ):
        outcome = program("study", *arguments)
        assert outcome.code == 2 and expected in " ".join(outcome.err.split()), outcome.err


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    file = study.folder / "study.json"
    for text, expected in (
        ("{", "this cannot be read"),
        ("{}", "not what was written"),
        ('{"format": 9}', "format is 9"),
    ):
        file.write_text(text)
        with pytest.raises(P2PKitError, match=expected):
            read_study(study.folder)


def test_a_session_shows_no_image_twice_and_both_sides_alike(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    sides = []
    for participant in range(1, 200):
        trials = plan(study, participant)
        assert trials == plan(study, participant)
        assert [trial.kind for trial in trials[:2]] == ["practice", "trial"]
        assert sorted(trial.kind for trial in trials) == ["check", "practice", *["trial"] * 4]
        assert len({trial.fake for trial in trials}) == len(trials)
        assert all(trial.fake == trial.real for trial in trials)
        sides += [trial.side for trial in trials]
    assert 0.45 < sides.count("left") / len(sides) < 0.55
    assert len({tuple(trial.fake for trial in plan(study, participant)) for participant in range(50)}) > 40


@pytest.mark.parametrize("count", [6, 7, 8, 11, 12, 20])
def test_different_images_are_never_of_one_key(count: int, tmp_path: Path) -> None:
    keys = tuple(map(str, range(count)))
    settings = Settings(1, 4, 1, pairing="different", seed=Random(count).randrange(99))
    study = Study(tmp_path, settings, {"a": "a"}, keys, keys)
    for participant in range(50):
        trials = plan(study, participant)
        assert all(trial.fake != trial.real for trial in trials)
        assert len({trial.fake for trial in trials}) == len({trial.real for trial in trials}) == 6
        if count >= 12:
            assert not {trial.fake for trial in trials} & {trial.real for trial in trials}
