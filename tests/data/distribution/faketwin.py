"""A plugin that offers a name which another one offers too."""

from typing import Any

import p2pkit


@p2pkit.hookimpl
def register_generators(register: Any) -> None:
    register("contested", object)
