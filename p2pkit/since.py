"""What has changed since a checkpoint was written: the run it is of, its recipe, the versions in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p2pkit.errors import RunDirError, listed, visible
from p2pkit.recipe.changes import edited
from p2pkit.recipe.recipe import Recipe
from p2pkit.run_dir import RunDir, beginning, unlike
from p2pkit.training.checkpoint import read_identities
from p2pkit.training.identity import Identity, sha256_of
from p2pkit.utils.jsonl import read_lines

SHOWN = 20
"""How many differences a message lists."""
ACCEPT_RECIPE = "--accept-changed-recipe, in Python accept_changed_recipe=True"
ACCEPT_VERSIONS = "--accept-changed-versions, in Python accept_changed_versions=True"


class Accepted(NamedTuple):
    """In spite of which changes a run is resumed."""

    data: bool = False
    recipe: bool = False
    versions: bool = False


@dataclass(frozen=True)
class Since:
    """What a run is resumed from, and which keys of its recipe have changed since, each as (before, now)."""

    run: str = ""
    """The id of the run that the checkpoint is of."""
    data: str | None = None
    """The fingerprint of the data that it was trained on."""
    keys: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    unnoted: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Those that changes.jsonl does not know of, since recipe.toml was edited."""
    start: Mapping[str, Any] = field(default_factory=dict)
    """The last start of the run (run_dir.this_start)."""

    def unlike(self, start: Mapping[str, Any]) -> list[str]:
        """A notice where a new start differs from the last one in what the same bytes depend on."""
        if not (found := unlike(self.start, start)):
            return []
        return [
            f"since this run was last started, what its bytes depend on has changed ({'; '.join(found)}): it resumes, "
            "but may end in other bytes than one left alone"
        ]


def compared(folder: RunDir, begun: Recipe, versions: Mapping[str, str], accepted: Accepted) -> Since:
    """What has changed since the last checkpoint in a run folder, whose recipe is ``begun``; ``versions`` are in use.

    Raises:
        RunDirError: a checkpoint is of another run, or the recipe or the versions have changed, and that is not
            accepted.
    """
    identities = read_identities(folder.checkpoints)
    if not identities:
        return Since()  # where there is none, or all are damaged, is said where they are read
    environment = folder.environment()
    saved, text = list(identities.values())[-1], begun.document.text
    keys = _edited(folder, saved, text)
    notes = read_lines(folder.path / "changes.jsonl")
    known = bool(notes) and notes[-1].get("recipe_sha256") == sha256_of(text)
    unnoted = {} if known else keys
    wrong, options = [], []
    if not accepted.recipe:
        here = environment.get("id") or "none"
        for name, identity in identities.items():
            if identity.run != here:
                wrong.append(visible(f"{name} is of another run: {identity.run}, and environment.json is of {here}"))
        if saved.began_with != (now := beginning(environment)):
            wrong.append(visible(f"in environment.json: {saved.began_with} -> {now}"))
        wrong += _lines(unnoted)
        options += [ACCEPT_RECIPE] * bool(wrong)
    if not accepted.versions and (other := _lines(_versions(saved, versions))):
        wrong += other
        options.append(ACCEPT_VERSIONS)
    if wrong:
        raise RunDirError(
            f"{folder.path}: the last checkpoint was not trained by what is here now (before -> now):"
            f"{listed(wrong, SHOWN)}\nRestore what it was, or accept what it is now: {'; and '.join(options)}. Limits "
            "and rates are changed by --set KEY=VALUE instead of in recipe.toml"
        )
    starts = environment.get("starts") or [{}]
    return Since(saved.run, saved.data, keys, unnoted, starts[-1])


def differing(saved: Identity | None, text: str, versions: Mapping[str, str]) -> list[str]:
    """In what a recipe's ``text`` and ``versions`` differ from those of ``saved``, each as "optimizer.lr: 0.1 -> 1"."""
    if saved is None or not saved.run:
        return []
    try:
        return _lines({**edited(saved.recipe, text), **_versions(saved, versions)})
    except (ValueError, RecursionError):
        return ["its recipe is damaged"]


def _edited(folder: RunDir, saved: Identity, text: str) -> dict[str, tuple[Any, Any]]:
    try:
        return edited(saved.recipe, text)
    except (ValueError, RecursionError) as error:
        why = visible(str(error))
        raise RunDirError(
            f"{folder.path}: the recipe in its last checkpoint is none: {why}; start the run anew"
        ) from error


def _versions(saved: Identity, now: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (saved.versions.get(name), now.get(name)) for name in {**saved.versions, **now}}
    return {name: (before, version) for name, (before, version) in pairs.items() if before != version}


def _lines(keys: Mapping[str, tuple[Any, Any]]) -> list[str]:
    lines = []
    for key, values in keys.items():
        before, now = ("nothing" if value is None else repr(value) for value in values)
        lines.append(visible(f"{key}: {before} -> {now}"))
    return lines
