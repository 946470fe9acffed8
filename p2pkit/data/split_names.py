"""What folders of splits are called, and which names are so much like them that it is in doubt what is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from p2pkit.contracts import Split

SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What folders of splits are called, in any case."""
SIDES = ("A", "B")
"""What the sides of CycleGAN's folders are called."""
SPLIT_AND_SIDE = re.compile(rf"({'|'.join(sorted(SPLIT_NAMES, reverse=True))})[ _-]?(.+)", re.IGNORECASE)
"""A folder's name such as trainA, for the images A of the train set."""
_IN_NAMES: Mapping[str, Split] = {
    **SPLIT_NAMES, "trn": "train", "trains": "train", "eval": "test", "evaluation": "test", "holdout": "test",
    "tst": "test", "tests": "test",
}  # fmt: skip
_OF_NNUNET: Mapping[str, Split] = {"tr": "train", "ts": "test"}
"""imagesTr: too short to mean much alone."""
_WORD = re.compile(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+")
_NOUN = r"(?:data|(?:dataset|set|image|img|pic|picture|photo|label|mask|sample|pair|file|split)s?|[abxyv])"
"""What stands beside it without a meaning of its own."""
_GLUED = re.compile(rf"{_NOUN}?({'|'.join(sorted(_IN_NAMES, key=len, reverse=True))}){_NOUN}?")
_GLUED_SHORT = re.compile(rf"{_NOUN}(tr|ts)")


def split_of(name: str) -> Split | None:
    """The split that a folder's name means: "val" for Validation; None for any other name."""
    return SPLIT_NAMES.get(name.lower())


def of_one_side(name: str) -> Split | None:
    """The split that a name such as trainA means."""
    match = SPLIT_AND_SIDE.fullmatch(name)
    return split_of(match[1]) if match and match[2] in SIDES else None


class Like(NamedTuple):
    """What a name that has a split's in it, such as maps_test2, is like: of which split, and what else is in it."""

    split: Split
    rest: tuple[str, ...]


def like_split(name: str) -> Like | None:
    """What a name is like: train2017, Test Set, trainset, imagesTs; None where no word of it is that of a split."""
    words = [word.lower() for word in _WORD.findall(name)]
    for place, word in enumerate(words):
        rest = tuple(each for each in words[:place] + words[place + 1 :] if not re.fullmatch(_NOUN, each))
        if match := _GLUED.fullmatch(word):
            return Like(_IN_NAMES[match[1]], rest)
        short = _GLUED_SHORT.fullmatch(word)
        if short or (word in _OF_NNUNET and len(words) > 1):
            return Like(_OF_NNUNET[short[1] if short else word], rest)
    return None


def like_another_split(folders: Iterable[Path], own: Split) -> tuple[Path, Split] | None:
    """The first of ``folders`` that is called much like a split other than ``own``, and which; None without one.

    A name is where there is nothing more to it (test2017), or where another beside it differs in the split alone
    (maps_train, maps_test): test_tubes is not by itself, nor is train, which may be a class of a test set.
    """
    likes = {path: like for path in sorted(folders) if (like := like_split(path.name))}
    for path, like in likes.items():
        beside = {each.split for other, each in likes.items() if (other.parent, each.rest) == (path.parent, like.rest)}
        if like.split != own and (len(beside) > 1 or not (like.rest or like.split == "train")):
            return path, like.split
    return None
