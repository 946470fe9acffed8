"""Recipes: from TOML to typed sections, and from these to the live objects that the engine trains."""
