"""The contract of a method (contracts.Method)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from p2pkit.components.kinds import DISCRIMINATORS_OF_METHODS
from p2pkit.components.signature import supplied_names
from p2pkit.contracts import Batch, MethodWithStart, Stateful, Terms, TermsOfPart
from p2pkit.networks.encoding import SourcePart
from p2pkit.testing.checks import Subject, contract, require
from p2pkit.testing.fixtures import encoded, half_mask, parts_of_a_method, two_sources
from p2pkit.testing.networks import CHANNELS, default_optimizer, images, require_no_gradient_without_weight
from p2pkit.training.checkpoint import Trained, read_checkpoint, write_checkpoint
from p2pkit.training.state_dicts import own_state
from p2pkit.training.trial import MaskedBatch

SIDE = 64
BATCH = 2
PROGRESS = (0.0, 0.5, 1.0)
"""Where in a run steps are made: a method may train other networks early than late."""


class _Update:
    """The engine's part in a step (contracts.Update), on one CPU; it checks all that it is given.

    Without ``optimizers`` nothing is lowered.
    """

    def __init__(self, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Any] | None) -> None:
        self.networks, self.optimizers, self.progress, self.calls = networks, optimizers, 0.0, 0
        self.accumulate, self.batch = 1, Batch(torch.empty(0), torch.empty(0), [])

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        if callable(terms):
            terms = terms(self.batch)
        names = [networks] if isinstance(networks, str) else list(networks)
        unknown = [name for name in names if name not in self.networks]
        require(names and not unknown, f"an update of {unknown or 'nothing'}; networks = {list(self.networks)}")
        for name, term in terms.items():
            require(isinstance(term, Tensor) and term.ndim == 0, f"the term {name!r} of {names} is not a scalar tensor")
            require(term.isfinite(), f"the term {name!r} of {names} is {float(term.detach()):g}")
            require(term.requires_grad, f"the term {name!r} of {names} depends on no trainable weight")
        if not terms:
            return
        self.calls += 1
        if self.optimizers is None:
            return
        optimizers = [self.optimizers[name] for name in names]
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in fixed:
            parameter.grad = None
        for optimizer in optimizers:
            optimizer.step()


class _Wrapped(nn.Module):
    """A network as DistributedDataParallel wraps it: what does not go through its forward is not synchronised."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the network gives."""
        self.calls += 1
        return self.module(*arguments, **keywords)


class _Watched(_Wrapped):
    """A generator whose outputs take note of their gradients."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.gradients: list[Tensor] = []

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the network gives."""
        output = super().forward(*arguments, **keywords)
        if output.requires_grad:
            output.register_hook(self.gradients.append)
        return output


def _made(subject: Subject, seed: int = 0, begins: bool = True, sources: Sequence[SourcePart] = ()) -> Any:
    channels = {name: subject.supplied(name, value) for name, value in CHANNELS[0].items()}
    set_seed(seed)
    asked = supplied_names(subject.registered.factory, "methods")
    adversarial = bool(asked & DISCRIMINATORS_OF_METHODS)
    method = subject.make(seed, **parts_of_a_method(**channels, adversarial=adversarial, sources=sources))
    if begins and isinstance(method, MethodWithStart):
        method.on_train_start()
    return method


def _networks(method: Any) -> dict[str, nn.Module]:
    return {name: getattr(method, name) for name in method.networks}


def _optimizers(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    return {name: default_optimizer(network) for name, network in networks.items()}


def _step(
    subject: Subject, method: Any, update: _Update, progress: float = 0.0, seed: int = 1, mask: Tensor | None = None
) -> MaskedBatch:
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[0].items())
    sides = images(source, SIDE, SIDE, BATCH, seed), images(target, SIDE, SIDE, BATCH, seed + 1)
    batch = MaskedBatch(*sides, ["a", "b"], mask)
    set_seed(seed)
    update.progress, update.batch = progress, batch
    method.train_step(batch, update)
    return batch


def _weights(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All parameters of each network, as one vector."""
    flat = {name: [each.detach().flatten() for each in network.parameters()] for name, network in networks.items()}
    return {name: torch.cat(parts) for name, parts in flat.items()}


@contract("`networks` names its attributes that hold networks to train; `generator` is one, from source to target")
def names_its_networks(subject: Subject) -> None:
    """What is named is there, and can be trained."""
    method = _made(subject)
    names = getattr(method, "networks", None)
    listed = isinstance(names, Sequence) and not isinstance(names, str) and "generator" in names
    require(listed, f"networks = {names!r}; it must be a sequence of names with 'generator' among them")
    for name in method.networks:
        network = getattr(method, name, None)
        require(isinstance(network, nn.Module), f"{name} is {type(network).__name__}, not a torch.nn.Module")
        assert isinstance(network, nn.Module)
        require(any(each.requires_grad for each in network.parameters()), f"{name} has no parameter to train")
    require(isinstance(getattr(method, "losses", None), Sequence), "it has no attribute `losses`, a sequence")
    source, target = (subject.supplied(name, value) for name, value in CHANNELS[0].items())
    output = method.generator(images(source, SIDE, SIDE))
    require(list(output.shape) == [2, target, SIDE, SIDE], f"its generator gives {list(output.shape)}")


@contract("a step gives update(network, terms) finite scalars, and changes no weights by itself")
def leaves_weights_to_the_engine(subject: Subject) -> None:
    """An update that lowers nothing leaves all weights as they were."""
    method = _made(subject)
    networks = _networks(method)
    for progress in PROGRESS:
        before, update = _weights(networks), _Update(networks, None)
        _step(subject, method, update, progress)
        require(update.calls, "a step without a call of update")
        for name, weights in _weights(networks).items():
            require(torch.equal(before[name], weights), f"the step itself has changed the weights of {name}")


@contract("steps train every network that it names, and call each as the engine has wrapped it")
def trains_its_networks(subject: Subject) -> None:
    """Weights move in the course of a run, and every network's forward goes through its wrapper."""
    method = _made(subject)
    networks = _networks(method)
    wrapped = {name: _Wrapped(network) for name, network in networks.items()}
    for name, network in wrapped.items():
        setattr(method, name, network)
    before, update = _weights(networks), _Update(networks, _optimizers(networks))
    for progress in PROGRESS:
        _step(subject, method, update, progress)
    for name, weights in _weights(networks).items():
        require(not torch.equal(before[name], weights), f"the weights of {name} have not changed")
        require(weights.isfinite().all(), f"weights of {name} that are not finite")
        require(wrapped[name].calls, f"{name} was not called through the attribute {name!r}, which the engine replaces")


@contract("if it looks at masks, outputs of its generator have no gradient where they are 0; several sources are one")
def learns_nothing_without_weight(subject: Subject) -> None:
    """A step at each place in a run; networks that were given see the sources encoded too.

    A run with masks refuses a method that does not look at them.
    """
    channels = subject.supplied("source_channels", CHANNELS[0]["source_channels"])
    if channels < 2:
        return
    parts = two_sources(channels)
    own = {
        name: encoded(value, parts) if isinstance(value, nn.Module) else value
        for name, value in subject.parameters.items()
    }
    subject = replace(subject, parameters={**own, "source_channels": sum(part.channels for part in parts)})
    method, mask = _made(subject, sources=parts), half_mask(BATCH, SIDE, SIDE)
    networks = _networks(method)
    method.generator = watched = _Watched(method.generator)
    update = _Update(networks, _optimizers(networks))
    looked_at = False
    for progress in PROGRESS:
        looked_at |= _step(subject, method, update, progress, mask=mask).mask_read
    require(watched.gradients, "no gradient of an output of the generator")
    if not looked_at:
        return
    for gradient in watched.gradients:
        require_no_gradient_without_weight(gradient, mask)


def _trained(method: Any) -> Trained:
    networks = _networks(method)
    stateful = {"method": own_state(method)} if isinstance(method, Stateful) else {}
    return Trained(networks, _optimizers(networks), stateful=stateful)


@contract("a run resumed from a checkpoint is exact: all that a step changes is in its networks or its state_dict()")
def resumes_exactly(subject: Subject) -> None:
    """Four steps, and two steps, a checkpoint, another method made anew, two more steps."""
    method, anew = _made(subject), _made(subject, seed=1, begins=False)
    trained, restored = _trained(method), _trained(anew)
    networks, others = trained.networks, restored.networks
    update, update_anew = _Update(networks, trained.optimizers), _Update(others, restored.optimizers)
    for seed in (1, 2):
        _step(subject, method, update, seed=seed)
    with TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), 1, trained, {}, keep=1)
        read_checkpoint(Path(folder), restored)
    for each, its_update in ((method, update), (anew, update_anew)):
        for seed in (3, 4):
            _step(subject, each, its_update, PROGRESS[1], seed=seed)
    after = _weights(others)
    for name, weights in _weights(networks).items():
        require(torch.equal(weights, after[name]), f"other weights of {name} after resuming")


CHECKS = (
    names_its_networks, leaves_weights_to_the_engine, trains_its_networks, learns_nothing_without_weight,
    resumes_exactly,
)  # fmt: skip
