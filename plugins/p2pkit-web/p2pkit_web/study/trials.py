"""Who sees what in which order: the trials of a session, all of one method, as in the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from p2pkit.errors import P2PKitError
from p2pkit_web.study.folder import Settings, Study

Kind = Literal["practice", "trial", "check"]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Trial:
    """A pair of images: on which side the fake one is, and of which keys both are."""

    kind: Kind
    fake: str
    """The key of the method's image; of a check that of the real image whose size the noise has."""
    real: str
    side: Side
    """Where the fake image is."""


def plan(study: Study, participant: int) -> list[Trial]:
    """The trials of the participant of a number: a function of the study's seed and that.

    Practice comes first. Checks lie anywhere among the others but at the beginning. No image is shown twice, but where
    different keys are paired and there are few images: there a key may be real in one trial and fake in another.
    """
    settings, chance = study.settings, Random(f"{study.settings.seed} {participant}")
    fakes = chance.sample(study.keys, settings.per_session)
    kinds: list[Kind] = ["trial"] * (settings.trials - 1)
    kinds += ["check"] * settings.checks
    chance.shuffle(kinds)
    before: list[Kind] = ["practice"] * settings.practice
    before.append("trial")
    pairs = zip(before + kinds, fakes, _reals(study, fakes, chance), strict=True)
    return [Trial(kind, fake, real, chance.choice(("left", "right"))) for kind, fake, real in pairs]


def _reals(study: Study, fakes: list[str], chance: Random) -> Iterator[str]:
    """The key of the real image beside each fake one."""
    if study.settings.pairing == "same":
        yield from fakes
        return
    shown = set(fakes)
    others = [key for key in study.real if key not in shown]
    chance.shuffle(others)
    for number in range(len(fakes)):  # the next fake one's key is another, and no two have the same next
        yield others[number] if number < len(others) else fakes[(number + 1) % len(fakes)]


def refuse_few(settings: Settings, count: int, others: int | None = None) -> None:
    """Raise P2PKitError where there are too few images for a session without any shown twice.

    ``count`` is that of a method's images; ``others`` that of the real images whose keys these do not have, where
    different keys are paired and the real ones are not those of the methods.
    """
    wanted = settings.per_session
    session = f"a session shows {settings.practice} + {settings.trials} + {settings.checks} pairs"
    remedy = "give more, or make it shorter by --practice, --trials and --checks"
    if count < wanted:
        raise P2PKitError(f"{session}, each of another image, and there are {count}; {remedy}")
    if others is not None and others < wanted:
        raise P2PKitError(f"{session}, and there are {others} real images of other keys; {remedy}")
