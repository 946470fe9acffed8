"""Model file to images."""

from p2pkit.translate.translator import Translator, load_model

__all__ = ["Translator", "load_model"]
