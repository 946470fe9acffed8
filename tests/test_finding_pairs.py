"""Which source goes with which target: patterns, lists, and what has no partner."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import p2pkit as library
from p2pkit.data.samples import Samples
from p2pkit.data.sets import Data
from tests.conftest import Call, lines, picture, save, train


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "found"


def loaded(recipe: Path, root: Path, **data: Any) -> Data:
    return library.load_data(recipe, {"data": {"name": "paired_folders", "root": str(root), **data}})


def settings(root: Path, **data: Any) -> tuple[str, str]:
    """The option that chooses paired folders."""
    table = {"name": "paired_folders", "root": str(root), **data}
    return "--set", f"data={{{', '.join(f'{key} = {value!r}' for key, value in table.items())}}}"


def numbers(samples: Samples) -> list[tuple[int, int]]:
    """Which pictures the pairs are made of, by their pixels: the number of each source and of each target."""
    known = {picture(24, 24, seed).tobytes(): seed for seed in range(200)}
    pairs = [samples[index] for index in range(len(samples))]
    return [(known[pair.source.tobytes()], known[pair.target.tobytes()]) for pair in pairs]


def folder(root: Path, names: Mapping[str, int]) -> Path:
    """Images by their paths below ``root``, each a picture of its own number."""
    for name, seed in names.items():
        save(root / name, picture(24, 24, seed))
    return root


def test_patterns_pair_what_archives_call_differently(root: Path, recipe: Path) -> None:
    folder(root, {
        "photos/aachen/aachen_01_leftImg8bit.png": 1, "photos/ulm/ulm_02_leftImg8bit.png": 2,
        "photos/ulm/readme_picture.png": 9, "maps/aachen/aachen_01_gtFine_labelIds.png": 101,
        "maps/ulm/ulm_02_gtFine_labelIds.png": 102, "maps/ulm/ulm_02_gtFine_color.png": 150,
    })  # fmt: skip
    patterns = {"source_pattern": "{stem}_leftImg8bit", "target_pattern": "{stem}_gtFine_labelIds"}
    data = loaded(recipe, root, source="photos", target="maps", **patterns)
    assert numbers(data.train) == [(1, 101), (2, 102)]
    assert data.train[0].key == "photos/aachen/aachen_01_leftImg8bit.png"
    counted = [notice for notice in data.notices if "_pattern" in notice]
    assert counted == [
        f'{root}/photos: 2 of 3 images match data.source_pattern = "{{stem}}_leftImg8bit"; 1 left out '
        "(ulm/readme_picture.png)",
        f'{root}/maps: 2 of 3 images match data.target_pattern = "{{stem}}_gtFine_labelIds"; 1 left out '
        "(ulm/ulm_02_gtFine_color.png)",
    ]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("{stem}_A", "{stem}_B", [(1, 101), (2, 102)]),
        ("{stem}_B", "{stem}_A", [(101, 1), (102, 2)]),
        ("{stem}_A", "{stem}_A_seg", [(1, 51)]),
    ],
)
def test_both_sides_may_live_in_one_folder(
    source: str, target: str, expected: list[tuple[int, int]], root: Path, recipe: Path
) -> None:
    folder(root / "images", {"1_A.png": 1, "1_B.png": 101, "2_A.png": 2, "2_B.png": 102, "1_A_seg.png": 51})
    data = loaded(
        recipe, root, source="images", target="images", source_pattern=source, target_pattern=target,
    ) if "seg" not in target else library.load_data(
        recipe,
        {"data": {"name": "paired_folders", "root": str(root), "source": "images", "target": "images",
                  "source_pattern": source, "target_pattern": target}, "loader.bad_data": "skip"},
    )  # fmt: skip
    assert numbers(data.train) == expected


def test_of_one_folder_the_pattern_that_says_more_has_the_file(root: Path, recipe: Path) -> None:
    folder(root / "images", {"1.png": 1, "2.png": 2, "1_gt.png": 101, "2_gt.png": 102})
    data = loaded(recipe, root, source="images", target="images", target_pattern="{stem}_gt")
    assert numbers(data.train) == [(1, 101), (2, 102)] and not any("left out" in each for each in data.notices)


def test_targets_below_the_folder_of_sources(root: Path, recipe: Path) -> None:
    folder(root, {"1.png": 1, "2.png": 2, "masks/1.png": 101, "masks/2.png": 102})
    assert numbers(loaded(recipe, root, source=".", target="masks").train) == [(1, 101), (2, 102)]


def test_patterns_with_folders_and_groups(root: Path, recipe: Path) -> None:
    folder(root / "all", {
        "ct/p1/001.png": 1, "ct/p2/001.png": 2, "mr/p1/001.png": 101, "mr/p2/001.png": 102, "other/p1/001.png": 9,
    })  # fmt: skip
    patterns = {"source_pattern": "ct/{group}/{stem}", "target_pattern": "mr/{group}/{stem}"}
    data = loaded(recipe, root, source="all", target="all", **patterns)
    assert numbers(data.train) == [(1, 101), (2, 102)]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("image", "expected a text with one {stem}"),
        ("{stem}_{stem}", "expected a text with one {stem}"),
        ("{stem}_{patient}", "expected a text with one {stem}"),
        ("{stem}_{", "expected a text with one {stem}"),
        ("{stem}_A.png", "leave its ending .png out"),
        ("{stem}_X", 'none of the 2 images matches data.source_pattern = "{stem}_X"; one of them is 1.png'),
    ],
)
def test_patterns_that_are_refused(pattern: str, reason: str, root: Path, recipe: Path, p2pkit: Call) -> None:
    folder(root, {"source/1.png": 1, "source/2.png": 2, "target/1.png": 101, "target/2.png": 102})
    outcome = p2pkit("check", recipe, *settings(root, source_pattern=pattern))
    assert outcome.code == 2 and reason in outcome.err
    assert len(outcome.said) == 1, outcome.err


def test_one_folder_without_patterns_would_pair_each_image_with_itself(root: Path, recipe: Path, p2pkit: Call) -> None:
    folder(root, {"images/1.png": 1})
    (root / "link").symlink_to(root / "images")
    for target in ("images", "link"):
        outcome = p2pkit("check", recipe, *settings(root, source="images", target=target))
        assert outcome.code == 2 and "is both a source and a target" in outcome.err


LONELY = {"source/1.png": 1, "source/2.png": 2, "source/3.png": 3, "target/1.png": 101, "target/9.png": 109}


def test_what_has_no_partner_is_counted_for_all_sets(root: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder(root / split, LONELY)
    for command in ("check", "run"):
        out = ("--out", tmp_path / "run") if command == "run" else ()
        outcome = p2pkit(command, recipe, *settings(root), *out)
        assert outcome.code == 2 and outcome.err.count("2 of 3 sources and 1 of 2 targets") == 2
        assert f"{root}/test/source/2.png has no partner in {root}/test/target" in outcome.err
        assert f"{root}/train/target/9.png has no partner in {root}/train/source" in outcome.err
        assert 'loader.bad_data = "skip"' in outcome.err
    assert not (tmp_path / "run").exists()


def test_what_has_no_partner_is_skipped_and_stated(root: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    folder(root, LONELY)
    folder(root, {"source/4.png": 4, "target/4.png": 104, "source/5.png": 5, "target/5.png": 105, "source/5.jpg": 6})
    few = ("--set", "loader.batch_size=2", "--set", "loader.bad_data=skip")
    outcome = p2pkit("run", recipe, *settings(root), *few, "--out", tmp_path / "skipped")
    assert outcome.code == 0, outcome.err
    assert "NOTICE: every source needs" in outcome.err and "2 of 4 sources and 1 of 3 targets" in outcome.err
    assert "5.jpg" in outcome.err and "two images of one name" in outcome.err
    for name in ("source/2.png", "source/3.png", "target/9.png", "source/5.png", "source/5.jpg", "target/5.png"):
        (root / name).unlink()
    clean = p2pkit("run", recipe, *settings(root), "--out", tmp_path / "clean")
    assert clean.code == 0 and "no partner in" not in clean.err
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("skipped", "clean"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("names", "guess"),
    [
        (("{}_A", "{}_B"), 'source_pattern = "{stem}_A" and data.target_pattern = "{stem}_B"'),
        (("image{}", "mask{}"), 'source_pattern = "image{stem}" and data.target_pattern = "mask{stem}"'),
        (("{}", "{}_gt"), 'source_pattern = "{stem}" and data.target_pattern = "{stem}_gt"'),
        (("Case{}", "case{}"), "5 of them differ from one another only in capital letters (Case1, case1)"),
    ],
)
def test_a_guess_that_is_right(names: tuple[str, str], guess: str, root: Path, recipe: Path, p2pkit: Call) -> None:
    for index in range(1, 6):
        folder(
            root, {f"source/{names[0].format(index)}.png": index, f"target/{names[1].format(index)}.png": 100 + index}
        )
    outcome = p2pkit("check", recipe, *settings(root))
    assert outcome.code == 2 and "5 of 5 sources and 5 of 5 targets" in outcome.err and guess in outcome.err
    if "pattern" in guess:
        patterns = dict(zip(("source_pattern", "target_pattern"), guess.split('"')[1::2], strict=True))
        expected = [(index, 100 + index) for index in range(1, 6)]
        assert numbers(loaded(recipe, root, **patterns).train) == expected


def test_endings_in_capitals_pair_and_forms_of_unicode_are_one_name(root: Path, recipe: Path, p2pkit: Call) -> None:
    composed = "Gebäude"
    decomposed = unicodedata.normalize("NFD", composed)
    folder(root, {"source/a.PNG": 1, "target/a.png": 101})
    folder(root, {f"source/{composed}/ü.png": 2, f"target/{decomposed}/{unicodedata.normalize('NFD', 'ü')}.png": 102})
    assert sorted(numbers(loaded(recipe, root).train)) == [(1, 101), (2, 102)]
    folder(root, {f"source/{decomposed}/ü.png": 3})
    outcome = p2pkit("check", recipe, *settings(root))
    assert outcome.code == 2 and "two images of one name, the same in two Unicode forms" in outcome.err


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("layout", ["{side}", "{split}/{side}", "{side}/{split}", "{split}{side}"])
def test_folders_and_lists_in_another_form_of_unicode(
    forms: tuple[str, str], layout: str, tmp_path: Path, recipe: Path, p2pkit: Call
) -> None:
    written, asked = forms
    root = tmp_path / unicodedata.normalize(written, "Städte")
    names = {"Zürich": 0, "Genève": 100}
    for split, more in (("train", 1), ("test", 5)) if "split" in layout else (("train", 1),):
        for side, seed in names.items():
            place = layout.format(split=split, side=side)
            for index in range(2):
                folder(root, {unicodedata.normalize(written, f"{place}/é{index}.png"): seed + more + index})
    in_recipe = Path(unicodedata.normalize(asked, str(root)))
    source, target = (unicodedata.normalize(asked, side) for side in names)
    data = loaded(recipe, in_recipe, source=source, target=target)
    assert numbers(data.train) == [(1, 101), (2, 102)]
    assert numbers(data.test) == ([(5, 105), (6, 106)] if "split" in layout else [])
    if layout == "{side}":
        rows = "".join(f"{source}/é{index}.png,{target}/é{index}.png\n" for index in range(2))
        (root / unicodedata.normalize(written, "Pärchen.csv")).write_text(
            unicodedata.normalize(asked, f"source,target\n{rows}"), encoding="utf-8"
        )
        listed = loaded(recipe, in_recipe, list=unicodedata.normalize(asked, "Pärchen.csv"))
        assert numbers(listed.train) == [(1, 101), (2, 102)]


LIST = """source,target,split
a/1.png,b/eins.png,
a/2.png,b/zwei.png,Train

"a/drei, sagt er.png",b/drei.png,validation
a/4.png,b/vier.png,test
"""


@pytest.fixture
def listed(root: Path) -> Path:
    """Images that a list pairs, and the list."""
    folder(root, {
        "a/1.png": 1, "a/2.png": 2, "a/drei, sagt er.png": 3, "a/4.png": 4,
        "b/eins.png": 101, "b/zwei.png": 102, "b/drei.png": 103, "b/vier.png": 104, "b/unused.png": 105,
    })  # fmt: skip
    (root / "pairs.csv").write_text(LIST)
    return root


@pytest.mark.parametrize(
    "written",
    [
        ("pairs.csv", LIST, "utf-8"),
        ("pairs.csv", LIST.replace("\n", "\r\n"), "utf-8-sig"),
        ("pairs.csv", LIST.replace(",", ";").replace("drei;", "drei,").replace("e;t", "E; T"), "utf-8"),
        ("pairs.tsv", LIST.replace(",", "\t").replace("drei\t", "drei,"), "utf-8"),
        ("pairs.txt", LIST.replace(",", "\t").replace("drei\t", "drei,"), "utf-8"),
        ("pairs.csv", LIST.replace("a/1.png", r"a\1.png").replace("b/vier", "ROOT/b/vier"), "utf-8"),
    ],
    ids=["as it is", "of Excel", "of Excel in Germany", "TSV", "tabs", "Windows' paths"],
)  # fmt: skip
def test_a_list_pairs(written: tuple[str, str, str], listed: Path, recipe: Path) -> None:
    name, text, encoding = written
    (listed / "pairs.csv").unlink()
    (listed / name).write_bytes(text.replace("ROOT", str(listed)).encode(encoding))
    data = loaded(recipe, listed, list=name)
    assert [numbers(samples) for samples in (data.train, data.val, data.test)] == [
        [(1, 101), (2, 102)], [(3, 103)], [(4, 104)],
    ]  # fmt: skip
    assert [data.train[index].key for index in range(2)] == ["a/1.png", "a/2.png"]


def test_groups_in_several_sets_are_stated(listed: Path, recipe: Path, p2pkit: Call) -> None:
    text = "source,target,split,group\na/1.png,b/eins.png,train,p1\na/2.png,b/zwei.png,val,p1\n"
    (listed / "pairs.csv").write_text(text)
    notices = loaded(recipe, listed, list="pairs.csv").notices
    assert any("1 groups have pairs in more than one set (p1)" in notice for notice in notices)


def test_columns_that_nobody_has_asked_for_are_left_out_and_named(listed: Path, recipe: Path, p2pkit: Call) -> None:
    rows = [
        line.split(",") for line in ("a/1.png,b/eins.png,train", "a/2.png,b/zwei.png,train", "a/4.png,b/vier.png,test")
    ]
    text = "".join(f"{number},{row[0]},scanner {number},{row[1]},{row[2]}\n" for number, row in enumerate(rows))
    (listed / "pairs.csv").write_text(f",source,made with,target,split\n{text}")
    data = loaded(recipe, listed, list="pairs.csv")
    assert numbers(data.train) == [(1, 101), (2, 102)] and numbers(data.test) == [(4, 104)]
    assert f"{listed}/pairs.csv: 2 of its columns are not used: without a name, made with" in data.notices
    # but no column that may be meant as one that is
    for column, said in (
        ("splt", "did you mean 'split'?"),
        ("subset", "holds splits (test, train), but is"),
    ):
        (listed / "pairs.csv").write_text(f"id,source,made with,target,{column}\n{text}")
        outcome = p2pkit("check", recipe, *settings(listed, list="pairs.csv"))
        assert outcome.code == 2 and said in outcome.err, outcome.err


@pytest.mark.parametrize(("side", "refused"), [("source", True), ("target", False)])
def test_a_file_in_two_sets_of_a_list(side: str, refused: bool, listed: Path, recipe: Path, p2pkit: Call) -> None:
    (listed / "link.png").symlink_to(listed / ("a/1.png" if refused else "b/eins.png"))
    test = "link.png,b/vier.png" if refused else "a/4.png,link.png"
    (listed / "pairs.csv").write_text(f"source,target,split\na/1.png,b/eins.png,train\n{test},test\n")
    said = f"1 {side}s of the test set are in the train set too ({listed}/link.png is "
    if refused:
        outcome = p2pkit("check", recipe, *settings(listed, list="pairs.csv"))
        assert outcome.code == 2 and said in outcome.err
    else:
        data = loaded(recipe, listed, list="pairs.csv")
        assert numbers(data.test) == [(4, 101)] and any(said in notice for notice in data.notices)


def test_all_that_is_wrong_in_a_list_is_said_at_once(listed: Path, recipe: Path, p2pkit: Call) -> None:
    text = (
        "source,target,split\na/1.png,b/none.png,\na/2.png,b/zwei.png,tset\na/4.png,,val\n\na/1.png,b/eins.png,\n"
        "a/1.png,b/zwei.png,\na/4.png,b/vier.png,test,more\na/4.png,a/4.png,test\n"
    )
    (listed / "pairs.csv").write_text(text)
    outcome = p2pkit("check", recipe, *settings(listed, list="pairs.csv"))
    assert outcome.code == 2 and "6 things in this list must be mended" in outcome.err
    for line in (
        f"line 2: target {listed}/b/none.png: there is no such file",
        "line 3: split: found 'tset', expected train, val or test; did you mean 'test'?",
        "line 4: it has no target",
        f"line 7: the source {listed}/a/1.png is in line 6 already",
        "line 8: 4 cells, expected 3 as in the header",
        f"line 9: {listed}/a/4.png is both source and target",
    ):
        assert f"\n  {line}" in outcome.err, outcome.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sourc,target\n", "unknown column 'sourc'; did you mean 'source'?; there is no column source"),
        ("source,target,source\n", "two columns are called source"),
        ("a/1.png,b/eins.png\n", "line 1: it has no header: this line names images"),
        ("source,target\n", "this list names no pairs"),
        ("", "this list names no pairs"),
        ('source,target\n"a/1.png,b/eins.png\n', "line 2: this is not a .csv file"),
        ("source,target\n\0,b/eins.png\n", "expected a path without NUL characters"),
        (f"source,target\n{'a' * 300},b/eins.png\n", "expected a path that can be looked up (File name too long)"),
        (None, "there is no such file (data.list, which is looked for in data.root)"),
    ],
)
def test_lists_that_are_refused(text: str | None, reason: str, listed: Path, recipe: Path, p2pkit: Call) -> None:
    (listed / "pairs.csv").write_text(text or "") if text is not None else (listed / "pairs.csv").unlink()
    outcome = p2pkit("check", recipe, *settings(listed, list="pairs.csv"))
    assert outcome.code == 2 and reason in outcome.err and "Traceback" not in outcome.err, outcome.err


def test_a_list_that_is_not_utf_8_and_one_beside_patterns(listed: Path, recipe: Path, p2pkit: Call) -> None:
    (listed / "pairs.csv").write_bytes("source,target\nä.png,b/eins.png\n".encode("latin-1"))
    assert "not in UTF-8" in p2pkit("check", recipe, *settings(listed, list="pairs.csv")).err
    outcome = p2pkit("check", recipe, *settings(listed, list="pairs.csv", source_pattern="{stem}_A"))
    assert outcome.code == 2 and "leave source, target and their patterns out" in outcome.err


def test_a_run_on_a_list_repeats_from_its_own_recipe(listed: Path, recipe: Path, p2pkit: Call, tmp_path: Path) -> None:
    first = train(p2pkit, recipe, tmp_path / "first", settings(listed, list="pairs.csv")[1])
    again = train(p2pkit, first / "recipe.toml", tmp_path / "again")
    assert lines(first) == lines(again)


def test_the_schema_and_the_components_show_the_new_keys(p2pkit: Call) -> None:
    (found,) = p2pkit("components", "paired_folders", "--json").json
    shown = {each["name"]: each["type"] for each in found["parameters"]}
    assert {"source_pattern", "target_pattern", "list", "split"} <= shown.keys()
    assert shown["split"] == "float from 0 to below 1"
    case = p2pkit("schema").json["properties"]["data"]
    while "then" in case:
        assert "split" in case["then"]["properties"]
        case = case.get("else", {})
