"""Trackers: Accelerate's own, by name, each of them made to write into the run folder and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration
from numpy.typing import NDArray

from p2pkit.errors import RecipeError, in_one_line
from p2pkit.settings import RunSettings

PACKAGES = {"tensorboard": "'p2pkit[tensorboard]'", "wandb": "'p2pkit[wandb]'", "aim": "'aim<4'"}
"""What pip installs for a tracker, where that is not its name."""
VARIABLES = {
    "wandb": ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"),
    "comet_ml": ("COMET_OFFLINE_DIRECTORY",),
    "clearml": ("CLEARML_CACHE_DIR",),
    "swanlab": ("SWANLAB_SAVE_DIR", "SWANLAB_LOG_DIR"),
    "trackio": ("TRACKIO_DIR",),
}
"""The variables that name a tracker's folder to write to; those that are set already stay as they are."""
ONE_IMAGE = ("aim", "clearml")
"""Trackers that take one image by a name; the others take several."""


def refuse_missing(trackers: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        RecipeError: it says how to install it.
    """
    for name in trackers:
        if name not in map(str, get_available_trackers()):
            raise RecipeError(f"run.trackers: {name!r} is not installed; pip install {PACKAGES.get(name, name)}")


@contextmanager
def tracked(accelerator: Accelerator, run: RunSettings, folder: Path, step: int) -> Iterator[None]:
    """Let the trackers of ``run`` write into the run folder during the body, from ``step`` on.

    Raises:
        RecipeError: one of them is not installed, or does not start.
    """
    trackers, folder = list(dict.fromkeys(run.trackers)), folder.absolute()
    refuse_missing(trackers)
    accelerator.log_with = trackers
    accelerator.project_configuration = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder))
    with _variables(trackers, folder):
        try:
            accelerator.init_trackers(run.name, init_kwargs=_options(folder, step))
        except Exception as error:
            offline = "; WANDB_MODE=offline logs into the run folder alone" if "wandb" in trackers else ""
            raise RecipeError(f"run.trackers: they do not start: {in_one_line(error)}{offline}") from error
        try:
            yield
        except BaseException:
            for tracker in accelerator.trackers:
                with suppress(Exception):  # the error that has ended the run is the one to report
                    tracker.finish()
            raise


def log_picture(accelerator: Accelerator, pixels: NDArray[np.uint8], step: int) -> None:
    """Give a picture [H, W, 3] to those trackers that take pictures."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({"samples": pixels[None]}, step=step, dataformats="NHWC")
        elif hasattr(tracker, "log_images"):
            tracker.log_images({"samples": pixels if tracker.name in ONE_IMAGE else [pixels]}, step=step)


def _options(folder: Path, step: int) -> dict[str, dict[str, Any]]:
    """What each tracker is started with; its project is the recipe's name."""
    return {
        # what an earlier session wrote of steps that are made again is hidden
        "tensorboard": {"purge_step": step + 1} if step else {},
        "wandb": {"dir": str(folder), "group": folder.name},
        "mlflow": {"logging_dir": str(folder / "mlflow"), "run_name": folder.name},
        "dvclive": {"dir": str(folder / "dvclive"), "dvcyaml": None, "save_dvc_exp": False},
        "swanlab": {"logdir": str(folder / "swanlab"), "experiment_name": folder.name},
    }


@contextmanager
def _variables(trackers: Sequence[str], folder: Path) -> Iterator[None]:
    """Set the variables of ``trackers`` that are not set, during the body."""
    places = {name: str(folder / tracker) for tracker in trackers for name in VARIABLES.get(tracker, ())}
    if "mlflow" in trackers:
        places["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    added = {name: value for name, value in places.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
