"""The headers of a data set's files, looked at before a run begins; what they say is kept for the next run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from p2pkit.contracts import DatasetWithHeaders, PairHeader
from p2pkit.errors import DataError, WriteError, listed
from p2pkit.recipe.assemble import Data
from p2pkit.recipe.data_rules import Place, Rules, cannot_be_used, go_through, places
from p2pkit.recipe.recipe import Recipe
from p2pkit.training.pair_form import refuse_unlike
from p2pkit.utils.atomic import write_text

SHOWN_IN_NOTICE = 3
SKIP = 'To train without them, set loader.bad_data = "skip"'


class Group(BaseModel):
    """Pairs of one split that have the same shapes: where the first of them is, its header, and how many there are."""

    place: Place
    header: PairHeader
    pairs: int


class Survey(BaseModel):
    """What the headers of a data set say; ``unread`` are the pairs whose headers could not be read."""

    groups: list[Group] = []
    unread: list[Place] = []

    @property
    def pairs(self) -> int:
        """How many pairs have been looked at."""
        return sum(group.pairs for group in self.groups) + len(self.unread)


class Fault(NamedTuple):
    """What is wrong with so many pairs."""

    message: str
    pairs: int


def check_headers(recipe: Recipe, data: Data) -> str | None:
    """Look at the headers of all pairs; what there is to say about those that a run will leave out.

    Data sets that offer no headers are not looked at.

    Raises:
        DataError: pairs cannot be used and the recipe's policy is to stop, or leaving them out would not help.
    """
    if not all(isinstance(split, DatasetWithHeaders) for split in (data.pairs, data.held_out)):
        return None
    survey, unreadable = _survey(data, _cache_file(recipe, data))
    unusable = [Fault(message, 1) for message in unreadable]
    unfitting: list[Fault] = []
    first = next((group.header for group in survey.groups if group.place.trained and _is_sound(group.header)), None)
    if first is not None:
        _apply(Rules(recipe, first), survey.groups, unusable, unfitting)
    if data.bad_data == "stop" and (unusable or unfitting):
        error = _error([*unusable, *unfitting], survey.pairs)
        raise DataError(f"{error}\n{SKIP}") if first is not None and not unfitting else error
    if unfitting or first is None:
        raise _error(unfitting or unusable, survey.pairs)
    if not unusable:
        return None
    few = listed([fault.message for fault in unusable], SHOWN_IN_NOTICE)
    return f"{sum(fault.pairs for fault in unusable)} of {survey.pairs} pairs cannot be used and are left out:{few}"


def _is_sound(header: PairHeader) -> bool:
    try:
        refuse_unlike(header, header)
    except DataError:
        return False
    return True


def _apply(rules: Rules, groups: Iterable[Group], unusable: list[Fault], unfitting: list[Fault]) -> None:
    """Add what the rules have against each group to the faults that leaving it out would mend, or would not."""
    for group in groups:
        trained = group.place.trained
        more = f" (and {group.pairs - 1} more of that shape)" if group.pairs > 1 else ""
        try:
            rules.refuse_unusable(group.header, trained)
        except DataError as error:
            unusable.append(Fault(f"{error}{more}", group.pairs))
            continue
        try:
            if trained:
                rules.refuse_unfitting(group.header)
        except DataError as error:
            unfitting.append(Fault(f"{error}{more}", group.pairs))


def _error(faults: list[Fault], pairs: int) -> DataError:
    return cannot_be_used(sum(fault.pairs for fault in faults), pairs, [fault.message for fault in faults])


def _survey(data: Data, cache: Path) -> tuple[Survey, list[str]]:
    """What the headers say, from the cache as far as it is known there, and what is wrong with those unreadable.

    A file is mended without a change of its size, so those that could not be read are looked at each time.
    """
    known, chosen = _cached(cache), places(data)
    if known.pairs == len(chosen):
        chosen = known.unread
    else:
        known = Survey()
    if not chosen:
        return known, []

    def header(place: Place) -> PairHeader | str:
        split = place.split(data)
        assert isinstance(split, DatasetWithHeaders)
        try:
            return split.header(place.number)
        except DataError as error:
            return str(error)

    found = list(zip(chosen, go_through("checking headers", chosen, header), strict=True))
    singles = [Group(place=place, header=seen, pairs=1) for place, seen in found if not isinstance(seen, str)]
    unread = [place for place, seen in found if isinstance(seen, str)]
    survey = Survey(groups=_grouped([*known.groups, *singles]), unread=unread)
    with suppress(WriteError):  # the next run reads the headers again
        write_text(cache, survey.model_dump_json())
    return survey, [seen for _, seen in found if isinstance(seen, str)]


def _grouped(groups: Iterable[Group]) -> list[Group]:
    """Groups of the same split and shapes made one, in the order of the data set."""
    merged: dict[object, Group] = {}
    for group in sorted(groups, key=lambda group: (not group.place.trained, group.place.number)):
        kind = (group.place.trained, group.header.source, group.header.target)
        if kind in merged:
            merged[kind].pairs += group.pairs
        else:
            merged[kind] = group
    return list(merged.values())


def _cache_file(recipe: Recipe, data: Data) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    digest = hashlib.sha256(f"{recipe.data.name} {data.fingerprint}".encode()).hexdigest()[:32]
    return caches / "p2pkit" / "headers" / f"{digest}.json"


def _cached(file: Path) -> Survey:
    try:
        return Survey.model_validate_json(file.read_bytes())
    except (OSError, ValueError):  # not there, not allowed, or damaged
        return Survey()
