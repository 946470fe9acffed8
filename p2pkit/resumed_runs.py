"""Runs that are resumed, as they were or with changes, and steps that are replayed; each a function."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from p2pkit.build import build, load_data
from p2pkit.distributed.accelerator import described, make_accelerator
from p2pkit.distributed.collectives import on_every_process, on_main_process
from p2pkit.errors import RecipeError, RunDirError, listed
from p2pkit.inference.model_file import newest_run
from p2pkit.recipe.changes import Changes, changed, unequal
from p2pkit.recipe.document import Overrides
from p2pkit.recipe.recipe import Recipe, differences
from p2pkit.recipe.resolve import read_recipe
from p2pkit.run_contracts import Callback
from p2pkit.run_dir import RunDir, beginning, this_start
from p2pkit.runs import HowToResume, Session, TrainingResult, in_use, open_session, prepare_run, start_run, train_run
from p2pkit.since import ACCEPT_RECIPE, SHOWN, Accepted, compared, differing
from p2pkit.training.identity import Identity, sha256_of
from p2pkit.training.not_finite import left_by, replay_step
from p2pkit.training.prepare import to_device
from p2pkit.training.trainer import Trainer
from p2pkit.training.trial import try_settings
from p2pkit.utils.progress import print_line

LIMITS = ("epochs", "max_steps", "max_time")


def resume(
    run_dir: Path | str,
    overrides: Overrides = (),
    device: str | None = None,
    accept_changed_data: bool = False,
    how_to_resume: HowToResume | None = None,
    callbacks: Sequence[Callback] = (),
    began: float | None = None,
    accept_changed_recipe: bool = False,
    accept_changed_versions: bool = False,
) -> TrainingResult:
    """Resume the run in a folder from its last checkpoint; on the same device the result is that of one left alone.

    ``overrides`` change what the networks and the data do not depend on (recipe.changes): limits, learning rates,
    schedule, logging; the run folder's recipe.toml has them from then on, and changes.jsonl notes what is changed when.
    A run that a callback has stopped stays stopped, unless ``validation.patience`` is changed. ``callbacks`` (given
    anew) and ``began`` as for :func:`train`. ``accept_changed_data``: although the data is not what the run was trained
    on; ``accept_changed_recipe``: by recipe.toml as it is now, also from the checkpoint of another run;
    ``accept_changed_versions``: with other versions of p2pkit and of plugins.

    Raises: as :func:`train`; a RecipeError where other keys are changed, or data, recipe or versions have changed and
    that is not accepted; then the message shows what has.
    """
    folder = RunDir.open(Path(run_dir))
    begun = read_recipe(folder.recipe)
    changes = changed(str(folder.path), begun, overrides) if overrides else Changes(begun, {})
    accepted = Accepted(accept_changed_data, accept_changed_recipe, accept_changed_versions)
    with open_session(changes.recipe.train, device, how_to_resume, callbacks, began) as session:
        return _resume(session, begun, changes, folder, accepted)


def train_or_resume(
    recipe: Recipe,
    overrides: Overrides,
    out: Path,
    device: str | None = None,
    accepted: Accepted = Accepted(),  # noqa: B008 - it is immutable
    how_to_resume: HowToResume | None = None,
    began: float | None = None,
) -> TrainingResult:
    """Resume the run in ``out`` when it holds one of this recipe with a checkpoint; train it there when it does not."""
    folder = RunDir(out)
    with open_session(recipe.train, device, how_to_resume, began=began) as session:
        if on_main_process(session.accelerator, lambda: str(folder.has_checkpoint)) == str(True):
            begun = on_every_process(session.accelerator, partial(read_recipe, folder.recipe))
            changes = on_every_process(session.accelerator, partial(_continued, folder, begun, recipe, accepted.recipe))
            return _resume(session, begun, changes, folder, accepted)
        return start_run(session, recipe, overrides, out)


def replay(left: Path, device: str | None = None) -> Iterator[str]:
    """Make the step again that a run has left in its folder under ``not_finite/``; lines that say what is found.

    Of a run folder it is the last such step, of the parent folder of runs that of the newest run which has one.
    """
    if not left.name.startswith("step_"):
        run = left if (left / "not_finite").is_dir() else newest_run(left, "not_finite", RunDirError)
        left = max((run / "not_finite").glob("step_*"), default=left)
    folder = RunDir.open(left.absolute().parent.parent)
    recipe = read_recipe(folder.recipe)
    accelerator = make_accelerator(recipe.train, device)
    plain = replace(recipe, train=recipe.train.model_copy(update={"compile": False}))  # layers are looked at one by one
    parts = build(plain, load_data(recipe).with_ranges(folder.ranges()))
    to_device(parts, accelerator.device)
    trainer = Trainer(parts, accelerator, folder)
    if unlike := differing(left_by(left), recipe.document.text, in_use(recipe)[0]):
        yield f"NOTICE: this step was not made by what is here now:{listed(unlike, SHOWN)}"
    accumulate = recipe.train.accumulate
    yield from replay_step(left, trainer.trained, parts.method, accelerator, recipe.run.seed, accumulate)


def _resume(session: Session, begun: Recipe, changes: Changes, folder: RunDir, accepted: Accepted) -> TrainingResult:
    """Resume the run in ``folder``, whose recipe.toml is ``begun``, with ``changes`` on top of that."""
    accelerator = session.accelerator
    versions, code = in_use(changes.recipe)
    since = on_every_process(accelerator, partial(compared, folder, begun, versions, accepted))
    recorded = None if accepted.data else since.data
    recipe, data, parts = prepare_run(session, changes.recipe, recorded, folder)
    noted = changes._replace(keys=since.unnoted | changes.keys)
    # an earlier command may have been killed between a change and the first checkpoint that knows of it
    changes = changes._replace(keys=since.keys | changes.keys)
    if changes.keys:
        try_settings(parts, accelerator.num_processes)
    session.folder = folder
    trainer = Trainer(parts, accelerator, folder, partial(session.how_to_resume, folder.path), session.began)
    with ExitStack() as held:
        on_main_process(accelerator, partial(held.enter_context, folder.held()))
        trainer.trained.new_options = changes.optimizer_options
        notices = trainer.resume()
        if noted.keys:
            notices += _change(trainer, noted)
        if "validation.patience" in changes.keys:
            trainer.state.stopped = ""
        written = parts.header.recipe if noted.keys else begun.document.text
        trainer.state.identity = Identity(
            since.run, written, versions, data.fingerprint, beginning(folder.environment())
        )  # fmt: skip
        notices += _over(trainer, recipe)
        device, processes = described(accelerator.device), accelerator.num_processes
        start = this_start(device, processes, code, parts.train.compile)
        notices += since.unlike(start)
        on_main_process(accelerator, lambda: folder.begin_again(since.run, start))
        if accelerator.is_main_process:
            for notice in notices:
                print_line(f"NOTICE: {notice}")
            print_line(f"run folder: {folder.path}; resuming from step {trainer.state.step}")
            if why := trainer.state.stopped:
                remedy = "start a new one, or if it was validation.patience, raise that with --set"
                print_line(f"NOTICE: a callback has stopped this run: {why}. It is not trained further; {remedy}")
        return train_run(trainer)


def _change(trainer: Trainer, changes: Changes) -> list[str]:
    """Note in the run folder what the run is resumed with; notices on what has no effect."""
    state, notices, shown = trainer.state, list[str](), []
    date, recipe = datetime.now(UTC).isoformat(timespec="seconds"), trainer.parts.header.recipe
    noted = {"step": state.step, "date": date, "changes": changes.keys, "recipe_sha256": sha256_of(recipe)}
    on_main_process(trainer.accelerator, lambda: trainer.folder.change(recipe, noted))
    for key, (before, now) in changes.keys.items():
        shown.append(f"{key} = {now!r} (it was {before!r})")
    notices.append(f"from step {state.step} on: {', '.join(shown)}")
    return notices


def _over(trainer: Trainer, recipe: Recipe) -> list[str]:
    """A notice where the limits leave nothing to train; none where a callback has ended the run, which is said."""
    state, limits = trainer.state, {key: value for key, value in recipe.train if key in LIMITS and value is not None}
    if state.stopped or not state.step or trainer.limits.position(state.step, state.seconds).progress < 1:
        return []
    by = ", ".join(f"train.{key} = {value}" for key, value in limits.items())
    more = "train.max_time=..." if "max_time" in limits else f"train.epochs={2 * (recipe.train.epochs or 1)}"
    if recipe.train.max_steps is not None and state.step >= recipe.train.max_steps:
        more = f"train.max_steps={2 * state.step}"
    first = "the limit that comes first ends it: " if len(limits) > 1 else ""
    why = f"this run is over at step {state.step} ({first}{by}), and is not trained further"
    return [f"{why}; to go on, resume it with --set {more}"]


def _continued(folder: RunDir, begun: Recipe, recipe: Recipe, accepted: bool) -> Changes:
    """How the run of the recipe ``begun`` is resumed by one that is given again; RecipeError where that is another."""
    if not recipe.names_metrics:  # its default goes by the weights that are at hand
        recipe = replace(recipe, metrics=begun.metrics, names_metrics=True)
    recipe = replace(recipe, generator=recipe.generator.following(begun.generator))
    keys = unequal(begun.tables(), recipe.tables())
    if keys and not accepted:
        raise RecipeError(
            "\n".join([f"{folder.path}: the run in this folder is of another recipe:", *differences(begun, recipe)])
            + f"\nChoose another --out, or resume that run: p2pkit run --resume {shlex.quote(str(folder.path))}, with "
            f"--set KEY=VALUE for limits and rates that are to change; or accept the other recipe: {ACCEPT_RECIPE}"
        )
    return Changes(recipe if keys else begun, keys)
