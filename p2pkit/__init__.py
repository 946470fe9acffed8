"""p2pkit: image-to-image translation as a toolkit.

The public API: ``train`` and ``resume`` for runs, ``sweep`` for tables of them, ``evaluate`` and ``compare`` for
metrics, ``fit_segmenter`` for one of them, ``bench`` for the rate of training, ``load_model``, ``load_data``,
``contact_sheet``, ``report`` for the page on a run, ``import_checkpoint`` and ``export_checkpoint`` for checkpoints of
the reference implementations, ``create`` and ``components``, and ``hookimpl`` for plugins. docs/plugins.md lists the
modules that a plugin may import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

import p2pkit.components  # noqa: F401 - before the function of that name, which an import would replace
from p2pkit import contracts, errors
from p2pkit.contracts import Batch, DiscriminatorOutput, Sample, WeightedLoss
from p2pkit.hookspecs import hookimpl
from p2pkit.images import formats

if TYPE_CHECKING:
    from p2pkit.benchmarks.bench import Benchmark, bench
    from p2pkit.build import load_data
    from p2pkit.components.catalogue import create
    from p2pkit.components.host import PluginManager
    from p2pkit.contact_sheets import contact_sheet
    from p2pkit.evaluations import Evaluation, compare, evaluate
    from p2pkit.inference.translator import Translator, load_model
    from p2pkit.reference.exporting import export_checkpoint
    from p2pkit.reference.importing import import_checkpoint
    from p2pkit.reports.report import Report, report
    from p2pkit.resumed_runs import resume
    from p2pkit.runs import TrainingResult, train
    from p2pkit.segmenters import fit_segmenter
    from p2pkit.sweeps.results import SweepResult
    from p2pkit.sweeps.sweep import sweep

__all__ = [
    "Batch", "Benchmark", "DiscriminatorOutput", "Evaluation", "Report", "Sample", "SweepResult", "TrainingResult",
    "Translator", "WeightedLoss", "__version__", "bench", "compare", "components", "contact_sheet", "contracts",
    "create", "errors", "evaluate", "export_checkpoint", "fit_segmenter", "hookimpl", "import_checkpoint",
    "load_data", "load_model", "report", "resume", "sweep", "train",
]  # fmt: skip

_HOMES = {
    "Evaluation": "p2pkit.evaluations", "SweepResult": "p2pkit.sweeps.results", "TrainingResult": "p2pkit.runs",
    "Translator": "p2pkit.inference.translator",
    "Benchmark": "p2pkit.benchmarks.bench", "bench": "p2pkit.benchmarks.bench",
    "compare": "p2pkit.evaluations", "contact_sheet": "p2pkit.contact_sheets",
    "create": "p2pkit.components.catalogue", "evaluate": "p2pkit.evaluations",
    "fit_segmenter": "p2pkit.segmenters",
    "export_checkpoint": "p2pkit.reference.exporting", "import_checkpoint": "p2pkit.reference.importing",
    "load_data": "p2pkit.build", "load_model": "p2pkit.inference.translator",
    "Report": "p2pkit.reports.report", "report": "p2pkit.reports.report",
    "resume": "p2pkit.resumed_runs", "sweep": "p2pkit.sweeps.sweep", "train": "p2pkit.runs",
}  # fmt: skip


def components(kind: str) -> list[str]:
    """The names of all components of ``kind`` (``"generators"``, ``"losses"`` ...), sorted."""
    from p2pkit.components.host import manager

    return manager().registry(kind).names()


def _plugins() -> PluginManager:
    from p2pkit.components.host import manager

    return manager()


# asked when a file is read or written, so that p2pkit.images need not know where plugins come from
formats.plugins = _plugins


def __getattr__(name: str) -> Any:
    # these need torch or pydantic, which `p2pkit --help` and a plugin's registration must not pay for
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
