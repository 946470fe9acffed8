"""Networks made within bounds: a few bytes can name one that no machine holds, or one that is never finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from p2pkit.errors import P2PKitError
from p2pkit.utils.opening import limits, over

MARGIN = 4
"""How many times the weights of a file a network may take: some of it is replaced as it is made."""
PARTS, PARTS_A_TENSOR = 10_000, 20
"""How many layers and tensors a network may have, in all and for each tensor of its file."""
_SIZED = frozenset({"empty", "zeros", "ones", "rand", "randn", "full"})


class TooLarge(P2PKitError):  # noqa: N818 - named for what it says of a network
    """A network takes more than the file of its weights lets expect."""


@contextmanager
def frugally(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse, in the body, to make a network that is much larger than its ``weights``, before memory is taken for it.

    Raises:
        TooLarge: out of what makes the network.
    """
    held, parts, taken, own = sum(one.nbytes for one in weights.values()), 0, 0, threading.get_ident()
    most, most_parts = MARGIN * held + limits().network_bytes, PARTS + PARTS_A_TENSOR * len(weights)

    def take(needed: int) -> None:
        if needed > most:
            raise TooLarge(
                f"it takes more memory than the {held} bytes of weights in its file let expect: "
                + over("network_bytes", needed - MARGIN * held)
            )

    def register(module: nn.Module, name: str, value: Any) -> None:
        nonlocal parts, taken
        if value is None or threading.get_ident() != own:  # others make networks too
            return
        parts += 1
        taken += value.nbytes if isinstance(value, Tensor) and not value.is_meta else 0
        take(taken)
        if parts > most_parts:
            raise TooLarge(f"it has more than {most_parts} layers, and its file {len(weights)} tensors")

    handles = [
        registration.register_module_parameter_registration_hook(register),
        registration.register_module_buffer_registration_hook(register),
        registration.register_module_module_registration_hook(register),
    ]
    try:
        with _BeforeItIsMade(take):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _BeforeItIsMade(TorchFunctionMode):
    """Tells how many bytes a tensor will take before it is made, by what functions are called with."""

    def __init__(self, take: Any) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _SIZED and str(kwargs.get("device")) != "meta":
            first = kwargs.get("size", args[0] if args else 0)
            sizes = first if isinstance(first, Sequence) else [one for one in args if isinstance(one, int)]
            self.take(4 * prod(sizes))
        elif name == "repeat" and args and isinstance(args[0], Tensor) and not args[0].is_meta:
            times = args[1] if isinstance(args[1], Sequence) else args[1:]
            self.take(args[0].nbytes * prod(times))
        elif name in ("arange", "linspace"):
            # many are made lists of, of which each number takes ten times as much
            numbers = [*args, kwargs.get("end", 0), kwargs.get("steps", 0)]
            self.take(40 * max((int(one) for one in numbers if isinstance(one, int | float)), default=0))
        return func(*args, **kwargs)
