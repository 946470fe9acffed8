"""Which files are one sample: source and target, several sources, a mask, by stems of names, as patterns find them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from p2pkit.errors import DataError, RecipeError, listed
from p2pkit.images.discovery import Found
from p2pkit.images.formats import installed
from p2pkit.images.names import without_image_ending

SHOWN = 5
"""How many files a message names."""
SHOWN_OF_FOLDER = 3
"""How many a message names that lack a partner in one of several folders."""
LOOKED_AT = 200
"""With how many names another is compared to guess a pattern."""
STEM = "{stem}"


class Pairs(NamedTuple):
    """The files of a set, in order, and beside each sample its group where names or a list give one."""

    files: list[tuple[Path, ...]]
    """Of each sample: sources, target, and mask where there are masks."""
    groups: Sequence[str] = ()
    notices: Sequence[str] = ()
    problems: Sequence[str] = ()
    """What has no partner, or several; it is not in ``files``."""
    names: Sequence[str] = ()
    """Of several sources."""
    masked: bool = False
    """Whether the last file of each is a mask."""


@dataclass(frozen=True)
class Pattern:
    """How the name of a file holds the stem of its pair: a text with {stem}, and {group} perhaps.

    It is matched against a file's name without its ending, in whatever folder, which then counts as the beginning of
    the stem; with a / in it against the whole path below the folder of its side. {group} is as short as it can be and
    holds no /. All else is taken as it is, capitals too.

    Raises:
        RecipeError: it has no {stem}, something else in braces, or an ending. ``key`` is what messages call it.
    """

    text: str
    key: str

    def __post_init__(self) -> None:
        names = re.findall(r"\{(.*?)\}", self.text)
        bare = re.sub(r"\{(stem|group)\}", "", self.text)
        if names.count("stem") != 1 or names.count("group") > 1 or set(bare) & set("{}"):
            allowed = "a text with one {stem}, and one {group} perhaps, as in {group}_{stem}"
            raise RecipeError(f"{self.key}: found {self.text!r}, expected {allowed}")
        if (ending := installed().ending(bare)) in installed().endings:
            raise RecipeError(
                f"{self.key}: found {self.text!r}; leave its ending {ending} out, files of any are matched"
            )

    @property
    def literals(self) -> int:
        """How many characters are not in braces."""
        return len(re.sub(r"\{.*?\}", "", self.text))

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = {STEM: "(?P<stem>.+)", "{group}": "(?P<group>[^/]+?)"}
        split = re.split(r"(\{.*?\})", normalize("NFC", self.text))
        return re.compile("".join(parts.get(part) or re.escape(part) for part in split), re.DOTALL)

    def find(self, file: Path, folder: Path) -> tuple[str, str] | None:
        """Stem and group (empty without) of an image below ``folder``, composed (NFC); None where it does not match.

        It may be a folder: the name of a series' folder has no ending.
        """
        path = normalize("NFC", without_image_ending(file.relative_to(folder)).as_posix())
        if self.text == STEM:
            return path, ""
        start = 0 if "/" in self.text else path.rfind("/") + 1
        match = self._regex.fullmatch(path, start)
        if match is None:
            return None
        return path[:start] + match["stem"], match.groupdict().get("group", "")


def match(sources: Found, targets: Found, source_pattern: str = STEM, target_pattern: str = STEM) -> Pairs:
    """The pairs among images of two folders, or of one: those of one stem, and of one group where both have groups.

    Files that match no pattern are left out. Names in several Unicode forms are one name.

    Raises:
        RecipeError: a pattern is not one, or both find the same files.
        DataError: a pattern matches no file at all.
    """
    patterns = Pattern(source_pattern, "data.source_pattern"), Pattern(target_pattern, "data.target_pattern")
    return match_sides([Side(sources, patterns[0], "source"), Side(targets, patterns[1], "target")])


def match_sides(sides: Sequence[Side]) -> Pairs:
    """What :func:`match` does, for any number of sides: sources, then target, then perhaps mask.

    A sample has a file on each. Of a source and the mask, which may be the same files, both keep these.

    Raises:
        RecipeError: two other sides find the same files.
        DataError: a pattern matches no file at all.
    """
    for one, other in combinations(sides, 2):
        _share_out(one, other)
    by_group = all("{group}" in side.pattern.text for side in sides)
    found = [side.by_stem(by_group) for side in sides]
    problems: list[str] = []
    several = {stem for side in found for stem, files in side.items() if len(files) > 1}
    if several:
        problems.append(_two_of_one_name([files for side in found for files in side.values() if len(files) > 1]))
    one_each = [{stem: files[0] for stem, files in side.items() if stem not in several} for side in found]
    complete = set.intersection(*map(set, one_each))
    if any(files.keys() != complete for files in one_each):
        problems.append(_without_partner(one_each, sides))
    stems = sorted(complete)
    groups = [_group(stem, sides, one_each) for stem in stems]
    files = [tuple(files[stem] for files in one_each) for stem in stems]
    return Pairs(files, groups if any(groups) else [], _unmatched(*sides), problems)


Stem = tuple[str, str]
"""The group of a pair, where both sides have one, and its stem."""


@dataclass
class Side:
    """The files of one side that match its pattern.

    Raises:
        DataError: none does.
    """

    found: Found
    pattern: Pattern
    called: str
    """What messages call one of them: "source", "source depth" (of several), "target" or "mask"."""
    stems: dict[Path, str] = field(default_factory=dict)
    groups: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in self.found.files:
            if names := self.pattern.find(file, self.found.folder):
                self.stems[file], self.groups[file] = names
        if not self.stems:
            example = self.found.files[0].relative_to(self.found.folder)
            raise DataError(
                f"{self.found.folder}: none of the {len(self.found.files)} images matches "
                f'{self.pattern.key} = "{self.pattern.text}"; one of them is {example}'
            )

    def by_stem(self, by_group: bool) -> dict[Stem, list[Path]]:
        """The files by stem: more than one where names differ by ending, or by Unicode form."""
        found: dict[Stem, list[Path]] = {}
        for file, stem in self.stems.items():
            found.setdefault((self.groups[file] if by_group else "", stem), []).append(file)
        return found


def _group(stem: Stem, sides: Sequence[Side], files: Sequence[Mapping[Stem, Path]]) -> str:
    """The group of the sample of a stem: that of its first file that has one."""
    groups = (side.groups.get(each[stem], "") for side, each in zip(sides, files, strict=True))
    return next(filter(None, groups), "")


def _unmatched(*sides: Side) -> list[str]:
    """How many files match no pattern, a notice a folder."""
    by_folder: dict[Path, list[Side]] = {}
    for side in sides:
        by_folder.setdefault(side.found.folder, []).append(side)
    notices = []
    for folder, those in by_folder.items():
        taken, files = {file for side in those for file in side.stems}, dict.fromkeys(those[0].found.files)
        others = [file for file in files if file not in taken]
        if others:
            patterns = " or ".join(f'{side.pattern.key} = "{side.pattern.text}"' for side in those)
            names = f"{others[0].relative_to(folder)}{', ...' * (len(others) > 1)}"
            count = f"{len(files) - len(others)} of {len(files)} images match {patterns}"
            notices.append(f"{folder}: {count}; {len(others)} left out ({names})")
    return notices


def _share_out(one: Side, other: Side) -> None:
    """Give each file that two sides have found to one: to a folder of its own, or the pattern that says more."""
    both = [file for file in one.stems if file in other.stems]
    folders = [side.found.folder for side in (one, other)]
    one_folder = folders[0].resolve() == folders[1].resolve()
    specific = [side.pattern.literals if one_folder else len(side.found.folder.parts) for side in (one, other)]
    if (one_folder and one.pattern.text == other.pattern.text) or (both and specific[0] == specific[1]):
        if one.called.startswith("source") and other.called == "mask":
            return
        raise RecipeError(
            f"{next(iter(one.stems), folders[0])} is both a {one.called} and a {other.called}; give "
            f'{one.pattern.key} and {other.pattern.key}, such as "{{stem}}_A" and "{{stem}}_B", or two folders'
        )
    loser = one if specific[0] < specific[1] else other
    for file in both:
        del loser.stems[file]
    if not one_folder:
        loser.found = loser.found._replace(files=[file for file in loser.found.files if file not in set(both)])


def _two_of_one_name(several: Sequence[Sequence[Path]]) -> str:
    """The problem of files that could all be one side of a pair."""
    texts = []
    for files in several:
        forms = {str(without_image_ending(file)) for file in files}
        composed = {normalize("NFC", form) for form in forms}
        why = ", the same in two Unicode forms" if len(composed) < len(forms) else ""
        texts.append(
            f"{' and '.join(map(str, files))}: two images of one {'stem' if len(composed) > 1 else 'name'}{why}"
        )
    return "a pair needs just one image on each side:" + listed(texts, SHOWN)


def _without_partner(files: Sequence[Mapping[Stem, Path]], sides: Sequence[Side]) -> str:
    """The problem of files without a partner, with what might mend it."""
    if len(files) == 2:
        message = _without_target_or_source(files, [side.found.folder for side in sides])
    else:
        message = _not_on_all_sides(files, [side.found.folder for side in sides])
    for side, there in zip(sides[1:], files[1:], strict=True):
        lonely = [sorted(files[0].keys() - there.keys()), sorted(there.keys() - files[0].keys())]
        stems, others = ([stem for _, stem in each] for each in lonely)
        guess = _of_other_case(stems, others)
        if not guess and not files[0].keys() & there.keys():  # else other patterns would part what pairs
            guess = _of_other_pattern(stems, others, sides[0].pattern.key, side.pattern.key)
        message += f"\n  {guess}" * bool(guess)
    return message


def _without_target_or_source(files: Sequence[Mapping[Stem, Path]], folders: Sequence[Path]) -> str:
    sources, targets = files
    lonely = [sorted(sources.keys() - targets.keys()), sorted(targets.keys() - sources.keys())]
    texts = [f"{sources[stem]} has no partner in {folders[1]}" for stem in lonely[0]]
    others = [f"{targets[stem]} has no partner in {folders[0]}" for stem in lonely[1]]
    few = min(len(texts), SHOWN - min(2, len(others)))  # of either side some are shown
    return (
        "every source needs a target of the same name (endings may differ), and the other way round; without one are "
        f"{len(texts)} of {len(sources)} sources and {len(others)} of {len(targets)} targets:"
        + listed([*texts[:few], *others, *texts[few:]], SHOWN)
    )


def _not_on_all_sides(files: Sequence[Mapping[Stem, Path]], folders: Sequence[Path]) -> str:
    partners = {stem: file for side in reversed(files) for stem, file in side.items()}
    texts = []
    for side, folder in zip(files, folders, strict=True):
        lacking = sorted(partners.keys() - side.keys())
        if lacking:
            shown, more = lacking[:SHOWN_OF_FOLDER], ", ..." * (len(lacking) > SHOWN_OF_FOLDER)
            names = ", ".join(str(partners[stem]) for stem in shown)
            texts.append(f"{folder} has no partner of {len(lacking)} ({names}{more})")
    complete = set.intersection(*map(set, files))
    return (
        "every sample needs an image of the same name (endings may differ) in each of its folders; of "
        f"{len(partners)} names {len(partners) - len(complete)} are not in all of them:" + listed(texts, len(texts))
    )


def _of_other_case(sources: Sequence[str], targets: Sequence[str]) -> str:
    lower = {stem.casefold(): stem for stem in targets}
    alike = [(stem, lower[stem.casefold()]) for stem in sources if stem.casefold() in lower]
    if not alike:
        return ""
    one, other = alike[0]
    return f"{len(alike)} of them differ from one another only in capital letters ({one}, {other}); rename these"


Ends = tuple[str, str]
"""What a name has before and after a stem."""


def _of_other_pattern(sources: Sequence[str], targets: Sequence[str], one_key: str, other_key: str) -> str:
    """What to say of the two patterns by which most of the stems would pair; empty where these are few."""
    one, other, most = likely_patterns(sources, targets)
    if most < max(2, min(len(sources), len(targets)) // 2 + 1):
        return ""
    return f'{most} of them would pair with {one_key} = "{one}" and {other_key} = "{other}"'


def likely_patterns(sources: Sequence[str], targets: Sequence[str]) -> tuple[str, str, int]:
    """The two patterns by which most of the stems would pair, and how many of them would."""
    best, most = (("", ""), ("", "")), 0
    for target in targets[:LOOKED_AT] if sources else ():
        for ends in _what_differs(sources[0], target):
            found = _stems(sources, ends[0]) & _stems(targets, ends[1])
            if len(found) > most:
                best, most = ends, len(found)
    one, other = (f"{before}{STEM}{after}" for before, after in best)
    return one, other, most


def _what_differs(source: str, target: str) -> list[tuple[Ends, Ends]]:
    """What two names have behind what they both begin with, and before what they both end with."""
    begin, end = _alike(source, target), _alike(source[::-1], target[::-1])
    found = []
    if begin:
        found.append((("", source[begin:]), ("", target[begin:])))
    if end:
        found.append(((source[:-end], ""), (target[:-end], "")))
    return found


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike, without marks that part words at the end of these."""
    length = 0
    while one[: length + 1] == other[: length + 1] and length < min(len(one), len(other)):
        length += 1
    return len(one[:length].rstrip("_-. "))


def _stems(names: Iterable[str], ends: Ends) -> set[str]:
    before, after = ends
    found = set()
    for name in names:
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after):
            found.add(name[len(before) : len(name) - len(after)])
    return found
