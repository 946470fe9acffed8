"""Runs: a recipe trained, a run resumed, a step replayed; each a function, for Python and for the command line."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from accelerate import Accelerator

from p2pkit import __version__
from p2pkit.build import augmentation, build, load_data, make
from p2pkit.components.host import digest_of_code, manager
from p2pkit.components.signature import plain
from p2pkit.data.checks import HeaderCheck, unsettled
from p2pkit.data.class_table import refuse_foreign_numbers
from p2pkit.data.found_values import with_found_values
from p2pkit.data.sets import Data
from p2pkit.distributed.accelerator import described, deterministic_algorithms, make_accelerator
from p2pkit.distributed.collectives import broadcast_text, on_every_process, on_main_process
from p2pkit.errors import P2PKitError, RecipeError, Unavailable
from p2pkit.evaluation.baselines import by_row, not_beaten
from p2pkit.evaluation.validation import PERCEPTUAL
from p2pkit.inference.model_header import ModelHeader, OriginHeader
from p2pkit.inference.translator import Translator, load_model
from p2pkit.recipe.document import Overrides, Source
from p2pkit.recipe.recipe import Chosen, Recipe
from p2pkit.recipe.resolve import read_recipe, with_metric
from p2pkit.reports.rules import RunWarning
from p2pkit.run_contracts import Callback
from p2pkit.run_dir import RunDir, beginning, this_start
from p2pkit.settings import TrainSettings
from p2pkit.training.compiling import why_not_compiled
from p2pkit.training.identity import Identity
from p2pkit.training.parts import TrainingParts
from p2pkit.training.prepare import to_device
from p2pkit.training.starting_point import StartingPoint
from p2pkit.training.trainer import Trainer
from p2pkit.training.trial import try_training
from p2pkit.utils.memory import freed_memory_kept
from p2pkit.utils.progress import print_line

LISTED_ELSEWHERE = "process 0 has found data that cannot be used, and lists it"
HowToResume = Callable[[Path, bool], str]
"""What a person types to resume the run in a folder; with True, although its data has changed."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run has come to: its folder, the model file, and the metrics that were taken at the end."""

    run_dir: Path
    model_path: Path
    metrics: Mapping[str, float]
    """By name, such as ``validation/mae``; empty without a validation set, and on all processes but the main one."""
    step: int
    """How many steps have been trained."""
    best_step: int | None = None
    """The step with the best metrics, where they are also taken while training; ``best.safetensors`` is its model."""
    validated_on: str = ""
    """What the metrics are of: "val set", "test set", "test set, which serves as val set too", or "" for nothing."""
    stopped: str = ""
    """Why a callback has ended the run before its limit; empty where none has."""
    not_beaten: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For each number, the trivial translators that the model is no better than; empty where it beats them all."""
    values: str = ""
    """Which values of the targets stand for 0 to 1 in metrics, as in "0 to 4095 of uint16"; empty for those of 8 bits.
    """

    device: str = ""
    """Where it was trained: "cuda:0, NVIDIA H100"."""
    warnings: Sequence[RunWarning] = ()
    """What a practitioner would warn of at its end, as the report says."""

    def load_model(self, **options: Any) -> Translator:
        """The translator in the model file; ``options`` as for :func:`p2pkit.load_model`."""
        return load_model(self.model_path, **options)


def train(
    recipe: Source | Recipe,
    overrides: Overrides = (),
    out: Path | str | None = None,
    device: str | None = None,
    how_to_resume: HowToResume | None = None,
    callbacks: Sequence[Callback] = (),
    began: float | None = None,
) -> TrainingResult:
    """Train a recipe in a new run folder.

    Args:
        recipe: a recipe file, PLUGIN:RECIPE, the tables of a recipe as a dict, or a folder of image pairs, for which
            one is made as `p2pkit init` does.
        overrides: what is set on top of it, values by dotted key: ``{"train.max_steps": 100}``.
        out: the run folder; ``runs/NAME/DATE-TIME`` unless given.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto" or None for the best there is.
        how_to_resume: what messages say of resuming the run in a folder; a call of :func:`p2pkit.resume` unless given.
        callbacks: objects that are called at the run's events (run_contracts.Callback), after those of the recipe.
        began: when the time that ``train.max_time`` limits began, by time.monotonic(); at this call unless given.

    Raises:
        RecipeError: the recipe is invalid, or one of its components cannot be used; nothing has been written then.
        DataError: the data cannot be used.
        RunDirError: ``out`` is taken.
        Interrupted: Ctrl-C, or another signal; a checkpoint has been written. It is a KeyboardInterrupt.
    """
    if isinstance(recipe, str | Path) and recipe and Path(recipe).is_dir():
        from p2pkit.new_recipe import recipe_of_folder

        recipe = recipe_of_folder(recipe, overrides)
    resolved = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    with open_session(resolved.train, device, how_to_resume, callbacks, began) as session:
        return start_run(session, resolved, overrides, None if out is None else Path(out))


@dataclass
class Session:
    """The processes of a run or an evaluation, and what is typed to resume it."""

    accelerator: Accelerator
    how_to_resume: HowToResume
    callbacks: Sequence[Callback]
    """Objects that are given beside the recipe's callbacks."""
    began: float
    """When the time that ``train.max_time`` limits began, by time.monotonic()."""
    folder: RunDir | None = None
    """The run folder, once it is known."""


@contextmanager
def open_session(
    settings: TrainSettings, device: str | None, how_to_resume: HowToResume | None = None,
    callbacks: Sequence[Callback] = (), began: float | None = None,
) -> Iterator[Session]:  # fmt: skip
    """The processes that share the work in the body; the loss of another one is an error of its own.

    Raises:
        ProcessLost: another process is gone.
    """
    began = time.monotonic() if began is None else began
    with deterministic_algorithms(settings.deterministic):
        accelerator = make_accelerator(settings, device)
        session = Session(accelerator, how_to_resume or partial(_resume_call, device), callbacks, began)
        try:
            with freed_memory_kept(accelerator.device.type == "cpu"):
                yield session
        except Exception as error:
            if accelerator.num_processes == 1:
                raise
            from p2pkit.distributed.lost import as_loss

            folder = session.folder
            command = session.how_to_resume(folder.path, False) if folder and folder.has_checkpoint else ""
            if (lost := as_loss(error, command)) is not None:
                raise lost from error
            raise


def _resume_call(device: str | None, folder: Path, accept_changed_data: bool) -> str:
    """What resumes a run in Python."""
    on = f", device={device!r}" if device else ""
    return f"p2pkit.resume({str(folder)!r}{on}{', accept_changed_data=True' if accept_changed_data else ''})"


def start_run(session: Session, recipe: Recipe, overrides: Overrides, out: Path | None) -> TrainingResult:
    """Train a recipe in a new run folder, once all of it has been tried."""
    accelerator = session.accelerator
    recipe, data, parts = prepare_run(session, recipe)
    autocast = accelerator.autocast if recipe.train.precision != "no" else None
    try_training(parts, accelerator.device, accelerator.num_processes, autocast)

    versions, code = in_use(recipe)
    identity = Identity(token_hex(8), parts.header.recipe, versions, data.fingerprint)

    def begin() -> str:
        nonlocal identity
        folder = RunDir.create(out, recipe.run.name)
        held.enter_context(folder.held())
        device, processes = described(accelerator.device), accelerator.num_processes
        start = this_start(device, processes, code, parts.train.compile)
        environment = {"id": identity.run, **_environment(recipe, data, overrides, parts.header, start)}
        identity = replace(identity, began_with=beginning(environment))
        folder.begin(parts.header.recipe, recipe.document.text, environment)
        print_line(f"run folder: {folder.path}")
        return str(folder.path)

    with ExitStack() as held:
        folder = session.folder = RunDir(Path(on_main_process(accelerator, begin)))
        typed = partial(session.how_to_resume, folder.path)
        trainer = Trainer(parts, accelerator, folder, typed, session.began)
        trainer.state.identity = identity  # of which that of process 0 is written
        return train_run(trainer)


def in_use(recipe: Recipe) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of p2pkit and of what else offers components of a recipe, or image formats; and digests of the code
    of the latter, which may change at one version."""
    versions, code, names = {"p2pkit": __version__}, dict[str, str](), set[str]()
    for value in vars(recipe).values():
        several = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for chosen in several:
            if isinstance(chosen, Chosen):
                names.add(chosen.registered.distribution)
    for plugin in manager().plugins:
        if plugin.distribution in names or "register_image_formats" in plugin.hooks:
            versions.setdefault(plugin.distribution, plugin.version)
            if plugin.distribution not in ("p2pkit", *code):
                code[plugin.distribution] = digest_of_code(plugin.module)
    return versions, code


def prepare_run(
    session: Session,
    recipe: Recipe,
    recorded: str | None = None,
    folder: RunDir | None = None,
) -> tuple[Recipe, Data, TrainingParts]:
    """The recipe with all its metrics, its data, checked, and all that is built for it, on the device.

    ``folder`` is that of a run that is resumed, whose ranges of values stay.
    """
    accelerator = session.accelerator
    data = on_every_process(accelerator, partial(load_data, recipe))
    for notice in data.notices if accelerator.is_main_process else ():
        print_line(f"NOTICE: {notice}")
    if accelerator.num_processes > 1:
        _refuse_differences(recipe, data, accelerator)
    if recorded is not None and recorded != data.fingerprint:
        raise RecipeError(
            f"{folder.path if folder else ''}: the data of {recipe.data.name!r} is not what this run was trained on: "
            "its fingerprint differs. Restore that data, start a new run, or accept the change: --accept-changed-data, "
            "in Python accept_changed_data=True"
        )
    headers = HeaderCheck(data, augmentation(recipe), recipe.loader.batch_size > 1)
    scan = partial(headers.scan, f"{recipe.data.name} {data.fingerprint}")
    notice = on_main_process(accelerator, scan, LISTED_ELSEWHERE)
    if notice and accelerator.is_main_process:
        print_line(f"NOTICE: {notice}")
    start, origin = None, None
    if folder is not None:
        data, origin = data.with_ranges(folder.ranges()), folder.environment().get("init_from")
    elif recipe.train.init_from is not None:
        start = on_every_process(accelerator, partial(StartingPoint.read, manager().model_file(recipe.train.init_from)))
        data = start.with_ranges(data, print_line if accelerator.is_main_process else str)
    if folder is None and (sides := unsettled(data)):
        data = with_found_values(data, sides, accelerator)
    if not recipe.names_metrics:
        recipe = with_perceptual_metric(recipe, data, accelerator)
    parts = on_every_process(accelerator, partial(build, recipe, data, callbacks=session.callbacks))
    if parts.validation.encoding is not None and folder is None:
        refuse_foreign_numbers(data, parts.sources, accelerator)
    on_main_process(accelerator, partial(headers.refuse_sizes, parts.generator), LISTED_ELSEWHERE)
    if start is not None:
        parts, reports = on_every_process(accelerator, partial(start.put_into, parts))
        for report in reports if accelerator.is_main_process else ():
            print_line(report)
    elif origin is not None:
        parts = replace(parts, header=parts.header.model_copy(update={"init_from": OriginHeader(**origin)}))
    to_device(parts, accelerator.device)
    return recipe, data, _compiled_where_possible(parts, accelerator)


def _compiled_where_possible(parts: TrainingParts, accelerator: Accelerator) -> TrainingParts:
    """``parts`` whose networks are not compiled where there is no compiler, which is printed."""
    if not parts.train.compile or not (why := why_not_compiled(accelerator.device)):
        return parts
    if accelerator.is_main_process:
        print_line(f"NOTICE: train.compile: the networks are not compiled, which cannot be done here: {why}")
    return replace(parts, train=parts.train.model_copy(update={"compile": False}))


def with_perceptual_metric(recipe: Recipe, data: Data, accelerator: Accelerator | None = None) -> Recipe:
    """``recipe`` measured by LPIPS too, where its weights are at hand, as process 0 finds.

    It is not downloaded for that, and left out where it does not take the data's targets.
    """
    if not len(data.validation) or data.train.targets is not None:
        return recipe
    measured = with_metric(recipe, {"name": PERCEPTUAL, "download": False})

    def try_it() -> str:
        try:
            spec = data.spec
            target = augmentation(recipe, scale=spec.scale).test(spec.tensors(data.first)).target
            make(measured.metrics[-1]).update(*2 * [target[None]])
        except P2PKitError as error:
            at_hand = "its weights are not at hand; name it in [[metrics]], and they are downloaded"
            print_line(f"NOTICE: {PERCEPTUAL} is not measured: {at_hand if isinstance(error, Unavailable) else error}")
            return ""
        return PERCEPTUAL

    return measured if (on_main_process(accelerator, try_it) if accelerator else try_it()) else recipe


def _refuse_differences(recipe: Recipe, data: Data, accelerator: Accelerator) -> None:
    """Every process must see the same recipe and data."""
    for what, seen in (("another recipe", recipe.toml()), (f"other data for {recipe.data.name!r}", data.fingerprint)):
        if broadcast_text(accelerator, seen) != seen:
            raise RecipeError(
                f"process {accelerator.process_index} finds {what} than process 0 does; every machine must see the "
                "same files by the same paths"
            )


def train_run(trainer: Trainer) -> TrainingResult:
    """Train to the end of a run, and what it has come to."""
    try:
        metrics, folder = trainer.train(), trainer.folder
    except (Exception, KeyboardInterrupt) as error:
        with suppress(KeyboardInterrupt):  # what has ended the run is the one to report
            trainer.report.end(trainer.state, trainer.limits, error)
        raise
    trainer.report.end(trainer.state, trainer.limits)
    main = trainer.accelerator.is_main_process
    if main and (skipped := trainer.outputs.skipped.summary()):
        print_line(f"NOTICE: {skipped}")
    state, validation = trainer.state, trainer.parts.validation
    best, validated_on = state.best.step if state.best else None, validation.called
    facts = trainer.facts or folder.measured()  # of a run that was over already
    if not facts.get("complete", True):
        validated_on += f", {facts['images']} of {facts['images_asked']} images, since the time was up"
    if facts.get("coverage", 1) < 1:
        validated_on += f", {facts['coverage']:.1%} of whose pixels count by their masks"
    return TrainingResult(
        folder.path, folder.model, metrics if main else {}, state.step, best, validated_on, state.stopped,
        not_beaten(by_row(metrics), "validation", validation.higher_is_better), validation.values,
        described(trainer.accelerator.device), trainer.report.warnings,
    )  # fmt: skip


def _environment(
    recipe: Recipe, data: Data, overrides: Overrides, header: ModelHeader, start: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run ran on: versions, plugins, the data's fingerprint and notices, the command."""
    plugins, ranges, sides = [], {}, {}
    for plugin in manager().plugins:
        if not plugin.problem:
            plugins.append(plugin.origin)
    for side in data.first.header.sides:
        if (found := data.ranges[side]) is not None:
            ranges[side] = found
        image: Any = data.first.image(side)
        values = list(data.value_range(side))
        sides[side] = {"channels": image.shape[2], "dtype": str(image.dtype), "values": values}
    return {
        "p2pkit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": start["libraries"],
        "plugins": plugins,
        "command": sys.argv,
        "overrides": plain(overrides),
        "init_from": header.init_from and header.init_from.model_dump(),
        "starts": [start],
        "data": {
            "name": recipe.data.name,
            "pairs": len(data.train),
            "val_pairs": len(data.val),
            "test_pairs": len(data.test),
            "validated_on": data.validation.split if len(data.validation) else None,
            "fingerprint": data.fingerprint,
            "notices": data.notices,
            "ranges": ranges,
            "sides": sides,
            **data.about,
        },
    }
