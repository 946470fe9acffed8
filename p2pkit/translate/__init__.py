"""Model file to images."""

from p2pkit.translate.files import FileOptions, Report
from p2pkit.translate.translator import Translator, load_model

__all__ = ["FileOptions", "Report", "Translator", "load_model"]
