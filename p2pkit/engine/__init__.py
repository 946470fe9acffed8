"""The engine: trains live objects with Accelerate, and never looks a name up."""

from p2pkit.engine.parts import TrainingParts
from p2pkit.engine.run_folder import RunFolder
from p2pkit.engine.trainer import Trainer
from p2pkit.interruption import Interrupted

__all__ = ["Interrupted", "RunFolder", "Trainer", "TrainingParts"]
