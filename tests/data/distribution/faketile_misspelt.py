"""A plugin with a hook that does not exist."""

from typing import Any

import p2pkit


@p2pkit.hookimpl
def register_generator(register: Any) -> None:
    register("never", object)
