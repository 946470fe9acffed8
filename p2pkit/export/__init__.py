"""Model file to other formats."""

from p2pkit.export.exporting import Exported, export_model

__all__ = ["Exported", "export_model"]
