"""What names of folders and files say: which side is the source, which the target, which files are a pair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from p2pkit.data.pairing import STEM

_SAYING: dict[int, str] = {
    -2: "source src input in a x",
    -1: "label edge sketch outline line lineart contour canny map mask seg segmentation semantic layout depth relief "
    "dem elevation height normal pose skeleton gray grey bw mono sar ir thermal infrared noisy noise blur blurry hazy "
    "haze rain rainy dark low lowres lr damaged masked incomplete draft",
    1: "photo image img picture colour color rgb satellite aerial ortho clean clear sharp high highres hr painting "
    "render rendered texture full",
    2: "target tgt trg output out b y gt truth groundtruth real",
}
RANKS = {word: rank for rank, words in _SAYING.items() for word in words.split()}
"""The field's words for sources, below 0, and for targets, above 0; those that say it outright are farther from 0."""
MASKS = frozenset({"mask", "valid", "validity", "weight", "hole"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
FEWEST_SHARE = 0.5
"""So many of a folder's files, at least, have to be in pairs for these to be what was meant."""
MOST_ENDS = 40
"""So many beginnings and ends of names, the most frequent ones, are tried against each other."""


def _words(name: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    return [word if word in RANKS or len(word) < 4 else word.removesuffix("s") for word in words]


def rank(name: str) -> int:
    """Below 0 where a name is one of a source, above 0 where it is one of a target, 0 where it says neither."""
    found = [RANKS[word] for word in _words(name) if word in RANKS]
    return max(reversed(found), key=abs, default=0)  # real_A: the end of a name says more


def is_mask(name: str) -> bool:
    """Whether a name is one of masks."""
    return not MASKS.isdisjoint(_words(name))


class Ordered(NamedTuple):
    """Two names in the order of a pair, and whether they say that it is this one."""

    source: str
    target: str
    told: bool


def orders(names: Iterable[str]) -> list[Ordered]:
    """All pairs of ``names``, those first whose names say most clearly what they are; without that by the alphabet."""
    pairs = sorted(permutations(names, 2), key=lambda pair: (rank(pair[0]) - rank(pair[1]), *map(str.lower, pair)))
    return [Ordered(source, target, rank(source) < rank(target)) for source, target in pairs]


class PairedNames(NamedTuple):
    """The patterns (data.source_pattern, data.target_pattern) by which the names in one folder pair."""

    source: str
    target: str
    told: bool
    pairs: int


def patterns_in(stems: Sequence[str]) -> PairedNames | None:
    """The two patterns by which most of the names in one folder, without endings, pair; None where few do.

    A name has an end such as ``_A``, or a beginning such as ``photo_``, of letters: numbers count what they name.
    """
    found: dict[str, set[str]] = {}
    for stem in stems:
        for pattern, rest in _ends(stem):
            found.setdefault(pattern, set()).add(rest)
    whole, most = found.pop(STEM, set()), sorted(found, key=lambda pattern: -len(found[pattern]))[:MOST_ENDS]
    best: PairedNames | None = None
    for one, other, told in orders([STEM, *most]):
        if STEM not in (one, other) and one.startswith(STEM) != other.startswith(STEM):
            continue
        rests = [whole - _matching(found, each) if pattern == STEM else found[pattern]
                 for pattern, each in ((one, other), (other, one))]  # fmt: skip
        pairs = len(rests[0] & rests[1])
        if best is None or (pairs, told, _parted(one, other)) > (best.pairs, best.told, _parted(*best[:2])):
            best = PairedNames(one, other, told, pairs)
    enough = best is not None and 2 * best.pairs >= FEWEST_SHARE * len(stems)
    return best if best is not None and enough and (best.pairs > 1 or best.told) and best.pairs else None


def _matching(found: dict[str, set[str]], pattern: str) -> set[str]:
    """The names that match a pattern of one end."""
    return {pattern.replace(STEM, rest) for rest in found[pattern]}


def _parted(*patterns: str) -> tuple[int, int]:
    """Prefers ends that a mark parts from the stem, and of these the shortest."""
    literals = [pattern.replace(STEM, "") for pattern in patterns]
    marks = sum(not each or each[0] in "_-. " or each[-1] in "_-. " for each in literals)
    return marks, -sum(map(len, literals))


def _ends(stem: str) -> Iterator[tuple[str, str]]:
    """The patterns of one end that match a name, and what is {stem} to each; the folder is a part of that."""
    folder, slash, name = stem.rpartition("/")
    within = folder + slash
    yield STEM, stem
    if set(name) & set("{}"):
        return
    for place in range(1, len(name)):
        marked = name[place] in "_-. " or name[place - 1] in "_-. "
        by_kind = name[place - 1].isalpha() != name[place].isalpha()
        if not (marked or by_kind):
            continue
        begin, end = name[:place], name[place:]
        if end[0] in "_-. " or by_kind:
            yield from [(f"{STEM}{end}", within + begin)] * any(map(str.isalpha, end))
        if begin[-1] in "_-. " or by_kind:
            yield from [(f"{begin}{STEM}", within + end)] * any(map(str.isalpha, begin))
