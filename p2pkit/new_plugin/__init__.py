"""``p2pkit plugins new``: a distribution to start from, with one working component, its tests and a recipe."""

from p2pkit.new_plugin.names import Names, checked_names
from p2pkit.new_plugin.writing import write_distribution

__all__ = ["Names", "checked_names", "write_distribution"]
