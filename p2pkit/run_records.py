"""What a run folder says in JSON, and the values that each of it may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from p2pkit.errors import RunDirError, first_line, visible
from p2pkit.inference.model_header import OriginHeader, Step
from p2pkit.settings import Bounds
from p2pkit.utils.opening import limits, over, read_regular

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
TensorFile = Annotated[str, Field(pattern=r"^(networks|optimizers|state_[0-9a-f]{16})\.safetensors$")]
"""The name of a file in a checkpoint; no path."""
Metric = Annotated[float, Field(allow_inf_nan=True)]


class _Record(BaseModel):
    """Keys that are not listed may say anything: nothing goes by them."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class Window(_Record):
    """training.metrics_log.MetricsWindow."""

    sums: dict[str, Metric]
    counts: dict[str, PositiveInt]


class OptimizerRecord(_Record):
    """What an optimizer keeps beside tensors: its options, group by group, and numbers by parameter."""

    groups: list[dict[str, Any]]
    numbers: dict[str, dict[str, Any]]


class StateRecord(_Record):
    """The state of a component on one process (training.state_dicts)."""

    value: Any
    file: TensorFile | None


class Progress(_Record):
    """progress.json of a checkpoint: training.state.RunState, and what training.checkpoint adds."""

    step: Step
    seconds: NonNegativeFloat = 0.0
    window: Window = Window(sums={}, counts={})
    best: tuple[Step, Metric] | None = None
    metrics: dict[str, Metric] = {}
    finished: bool = False
    stopped: str = ""
    expected: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    optimizers: dict[str, OptimizerRecord]
    scaler: dict[str, float] | None
    states: dict[str, Annotated[list[StateRecord], Field(min_length=1)]]
    sha256: dict[TensorFile, Sha256]


class SideRecord(_Record):
    """The images of a side, such as "source" or "target"."""

    channels: int
    dtype: str
    values: Bounds


class SizesRecord(_Record):
    """The sizes (height, width) of a side's images."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    different: int


class ClassesRecord(_Record):
    """The classes of a label map: a row of the class and its share in each set."""

    sets: list[str]
    rows: list[list[str]]


class DataRecord(_Record):
    """What a run began with of data."""

    name: str = ""
    pairs: Step = 0
    val_pairs: Step = 0
    test_pairs: Step = 0
    notices: list[str] = []
    fingerprint: str | None = None
    ranges: dict[str, Bounds] = {}
    sides: dict[str, SideRecord] = {}
    sizes: dict[str, SizesRecord] = {}
    classes: list[ClassesRecord] = []


class Environment(_Record):
    """environment.json: what a run began with, and each of its starts."""

    data: DataRecord = DataRecord()
    init_from: OriginHeader | None = None
    starts: list[dict[str, Any]] = []
    overrides: Any = None


class Status(_Record):
    """status.json: how far a run is, and what it takes."""

    state: Literal["running", "finished", "interrupted", "failed"] = "running"
    reason: str = ""
    """Why it has ended, where it did not reach its limit."""
    step: Step = 0
    steps: Step | None = None
    """Its limit; None where time limits it."""
    epoch: NonNegativeFloat = 0.0
    progress: NonNegativeFloat = 0.0
    seconds: NonNegativeFloat = 0.0
    """What it has taken so far, all of its starts together."""
    written: str = ""
    """When this was written, in UTC."""
    peak_memory: Step = 0
    """Bytes, of the main process since its last start."""
    peak_device_memory: Step | None = None
    best_step: Step | None = None
    parameters: dict[str, Step] = {}
    """How many each network has."""


class Measured(_Record):
    """validation.json: what the last metrics are of."""

    step: Step | None = None
    set: str = ""
    monitor: str | None = None
    """The metric that decides which model is the best."""
    higher_is_better: dict[str, bool | None] = {}

    complete: bool = True
    images: Step = 0
    images_asked: Step = 0
    coverage: Annotated[float, Field(ge=0, le=1)] = 1.0


class SweepRecord(_Record):
    """What a sweep has measured of a finished run: evaluations.Evaluation, in part."""

    row: str
    rows: dict[str, dict[str, Metric]]
    set: str
    images: Step
    fingerprint: str


class Left(_Record):
    """What a step that was not finite has left beside its batch (training.not_finite)."""

    keys: list[str]
    progress: Annotated[float, Field(ge=0, le=1)]


def refuse_unlikely(record: Any, kind: type[BaseModel]) -> None:
    """Raise ValueError, in a sentence, where ``record`` is not what a ``kind`` may be."""
    try:
        # as text, in which strict pydantic takes a list for a tuple
        kind.model_validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        at = visible(".".join(map(str, problem["loc"])))
        raise ValueError(f"{at or 'all of it'}: {problem['msg']}") from error


def read_record(file: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """What a file in a run folder says; empty where it is not there.

    Raises:
        RunDirError: it is damaged, or says what no run writes.
    """
    try:
        text = read_regular(file, limits().record_bytes)
    except FileNotFoundError:
        return {}
    if len(text) > limits().record_bytes:
        raise RunDirError(f"{file}: it is larger than {over('record_bytes', file.stat().st_size)}")
    try:
        found: dict[str, Any] = json.loads(text)
        refuse_unlikely(found, kind)
    except (ValueError, RecursionError) as error:
        raise RunDirError(
            f"{file}: the file is damaged: {visible(first_line(error))}. Restore it from a copy of the run folder, or "
            "train anew"
        ) from error
    return found
