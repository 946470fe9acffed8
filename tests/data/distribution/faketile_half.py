"""A plugin that loads, but whose hook fails."""

from typing import Any

import p2pkit


@p2pkit.hookimpl
def register_discriminators(register: Any) -> None:
    raise RuntimeError("no discriminators today")
