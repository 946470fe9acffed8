"""What a component of each kind must be, in types. The trainer and the plugins meet here and nowhere else.

Pixel arrays are ``[height, width, channels]`` as stored, integers or floating point; tensors are
``[N, channels, height, width]`` in [-1, 1], to which each side of a pair is normalized by its range of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from p2pkit.dataset_contracts import PairedDataset as PairedDataset
from p2pkit.dataset_contracts import UnpairedDataset as UnpairedDataset
from p2pkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

Split = Literal["train", "val", "test"]
Direction = Literal["AtoB", "BtoA"]
Normalisation = Literal["sample", "batch", "running"]
"""Whose statistics batch norm uses at translation: each image's own, the batch's, or those gathered in training."""
Resampling = Literal["bicubic", "nearest"]
Shape = tuple[int, int, int]
"""(height, width, channels) of pixels."""
NO_IMAGE: Shape = (0, 0, 0)
"""The shape of the side that a sample of an unpaired data set does not have."""
ValueRange = tuple[float, float]
"""The lowest and highest pixel value, which become -1 and 1."""


@dataclass(frozen=True)
class Policy:
    """How batch norm and dropout behave when a generator translates.

    ``norm``: statistics of each image by itself ("sample", the paper's), of the batch ("batch"), or those gathered in
    training ("running"). ``dropout``: the paper's noise, drawn for each image from a seed of its own.
    """

    norm: Normalisation = "sample"
    dropout: bool = True


Component = Any
"""A live component: what its factory returned."""


class SampleHeader(NamedTuple):
    """What is known of a sample without its pixels: the shapes (height, width, channels) of its images, and its key."""

    source: Shape
    """Of several sources, the channels of all together; see :meth:`of_sources`."""
    target: Shape
    key: str
    mask: Shape = NO_IMAGE
    """NO_IMAGE where there is none."""
    parts: tuple[tuple[str, int], ...] = ()
    """The name and the channels of each of several sources."""
    sides: tuple[str, ...] = ("source", "target")
    """What recipes and messages call the images; of several sources each is "source.NAME"."""

    @classmethod
    def of_sources(cls, sources: Mapping[str, Shape], target: Shape, key: str, mask: Shape = NO_IMAGE) -> SampleHeader:
        """The header of a sample with several sources, by name.

        Raises:
            DataError: the sources differ in size, or there are none.
        """
        sizes = {shape[:2]: f"{name} is {shape[0]}x{shape[1]}" for name, shape in sources.items()}
        if len(sizes) != 1:
            found = " and ".join(sizes.values()) or "there are none"
            raise DataError(f"{key}: its sources differ in size (height x width): {found}")
        (height, width), parts = next(iter(sizes)), tuple((name, shape[2]) for name, shape in sources.items())
        sides = (*(f"source.{name}" for name in sources), "target")
        return cls((height, width, sum(channels for _, channels in parts)), target, key, mask, parts, sides)


class Sample(NamedTuple):
    """One example: source and target, a key for messages and file names, and a mask if there is one.

    Images are pixels as stored: NumPy arrays [H, W, C] or [H, W], PIL images, or torch tensors [C, H, W] or [H, W].
    p2pkit itself gives arrays [H, W, C], and None for the side that a sample of an unpaired data set does not have.
    """

    source: NDArray[Any] | Any
    """An image, or several of one size, by name."""
    target: NDArray[Any] | Any
    """Of the size of the source, or of a whole multiple of it, the same for all samples; with load_size of any size."""
    key: str = ""
    mask: NDArray[Any] | Any = None
    """How much each pixel of the target counts, from 0 to all that the type holds (1 for floats and bool), [H, W]."""

    def image(self, side: str) -> NDArray[Any] | None:
        """The image that a header's ``sides`` calls so; None where there is none."""
        found: NDArray[Any] | None = getattr(self, side, None)
        if found is None and side.startswith("source.") and self.source is not None:
            found = self.source[side.removeprefix("source.")]
        return found

    @property
    def header(self) -> SampleHeader:
        """The shapes of this sample's arrays."""
        target: Any = getattr(self.target, "shape", NO_IMAGE)
        mask: Any = getattr(self.mask, "shape", NO_IMAGE)
        if isinstance(self.source, dict):
            shapes = {name: image.shape for name, image in self.source.items()}
            return SampleHeader.of_sources(shapes, target, self.key, mask)
        source: Any = getattr(self.source, "shape", NO_IMAGE)
        return SampleHeader(source, target, self.key, mask)


@runtime_checkable
class DatasetWithHeaders(Protocol):
    """A data set whose pairs ``p2pkit run`` looks at before it trains, all of them; others are read as they come."""

    def header(self, index: int) -> SampleHeader:
        """The shapes of the pair at ``index`` from the headers of its files; must be cheap, and safe in threads.

        Raises DataError naming the file when it is missing, unreadable or incomplete, as far as that can be seen.
        """
        ...


@dataclass
class Batch:
    """What a training step sees: tensors [N, C, H, W] in [-1, 1] and the keys of the N pairs.

    Several sources are one after another along the channels. Targets may be larger by a whole factor.
    """

    source: Tensor
    target: Tensor
    keys: list[str]
    mask: Tensor | None = None
    """How much each pixel of the targets counts, [N, 1, H, W] from 0 to 1; None where all count alike."""


class DiscriminatorOutput(NamedTuple):
    """What a discriminator predicts of an image: a list of logits [N, 1, h, w], one a scale, and features if any."""

    logits: list[Tensor]
    features: list[Tensor]

    @classmethod
    def of(cls, output: Tensor | list[Tensor] | DiscriminatorOutput) -> DiscriminatorOutput:
        """Any of the forms in which a discriminator may answer, in the one that losses see."""
        if isinstance(output, DiscriminatorOutput):
            return output
        return cls(output if isinstance(output, list) else [output], [])


class Discriminator(Protocol):
    """Predicts whether images are real, beside their sources. Set ``has_features = True`` to be asked for features.

    It is then called with ``features=True`` and answers with a DiscriminatorOutput, whose features serve losses such as
    feature matching.
    """

    def __call__(self, source: Tensor, image: Tensor) -> Tensor | list[Tensor] | DiscriminatorOutput:
        """Logits [N, 1, h, w] for an image [N, Ct, H, W] beside its source [N, Cs, H, W], or a list of them."""
        ...


class Step(Protocol):
    """A training step as losses see it. The discriminator runs only when a loss asks for its predictions."""

    source: Tensor
    target: Tensor
    fake: Tensor
    """Where there is a mask, ``mask * fake + (1 - mask) * target``: no loss has a gradient where the mask is 0."""
    mask: Tensor | None
    """[N, 1, H, W] from 0 to 1, or None."""

    @property
    def pred_real(self) -> DiscriminatorOutput:
        """The discriminator's output for the target."""
        ...

    @property
    def pred_fake(self) -> DiscriminatorOutput:
        """The discriminator's output for the fake."""
        ...

    def discriminate(self, image: Tensor) -> DiscriminatorOutput:
        """The discriminator's output for any image [N, Ct, H, W] (a gradient penalty's, say)."""
        ...


class Loss(Protocol):
    """A loss as methods see it: the generator's term, the discriminator's, or both. Its weight belongs to the recipe.

    A component has one of these methods or both, or is a module or function of ``(output, target)``, two tensors
    [N, Ct, H, W] in [-1, 1], whose scalar is the generator's term (``nn.L1Loss``). A torch module is put on the device,
    frozen, and in evaluation mode: nothing trains it.

    It keeps nothing from one step to the next, which a resumed run would not have. One that needs a discriminator
    of another form (features, say) raises a P2PKitError.
    """

    def generator_loss(self, step: Step) -> Tensor | None:
        """A scalar for the generator to lower, or None when this loss has no say there."""
        ...

    def discriminator_loss(self, step: Step) -> Tensor | None:
        """A scalar for the discriminator to lower (``step.fake`` is detached), or None."""
        ...


class WeightedLoss(NamedTuple):
    """A loss with its name and weight from the recipe. The weight multiplies both of its terms."""

    name: str
    weight: float
    loss: Loss


Terms = Mapping[str, "Tensor"]
"""Weighted scalar terms by name. Their sum is lowered; each goes into the metrics under its own name."""
TermsOfPart = Callable[["Batch"], Terms]
"""What makes the terms of a part of the batch."""


class Update(Protocol):
    """What the trainer gives a method to optimise with: backward, clipping, the optimizer's step, zero_grad."""

    progress: float
    """How far the run is, from 0 to 1, whichever limit ends it."""
    accumulate: int
    """The number of parts of the batch (``train.accumulate``)."""

    def __call__(
        self, networks: str | Sequence[str], terms: Terms | TermsOfPart, fixed: Iterable[nn.Parameter] = ()
    ) -> None:
        """Lower the sum of ``terms`` with the optimizer of a network, or of several by one backward pass.

        No terms, no update. The metrics have the terms under the first network's name. Parameters that are ``fixed``
        stay as they are, weights and moments, and so does what the optimizer counts for them.

        A function of a part of the batch is called for each part, and the means are lowered in one step: so it can be
        accumulated. Of several parts each has a seed, so a network draws the same for it in all updates of a step.
        """
        ...


class Method(Protocol):
    """Who owns the training step. ``networks`` names the attributes that hold the networks to train.

    The trainer may replace those attributes by wrapped ones (DistributedDataParallel). One of them is ``generator``,
    which maps source to target without further arguments and is what the model file holds.

    All that a step changes is in the networks, or in its state (:class:`Stateful`): that is what a checkpoint holds.
    Weights change by ``update`` alone.

    Its factory may ask for the recipe's ``generator``, ``discriminator`` and ``losses``, for ``source_channels`` and
    ``target_channels``, and for ``make_discriminator``, which makes another discriminator like the recipe's; it trains
    without one if it asks for neither. Networks of its own it makes itself. `p2pkit check` makes it with networks on
    torch's meta device.
    """

    networks: Sequence[str]

    def train_step(self, batch: Batch, update: Update) -> None:
        """One step on one batch."""
        ...


@runtime_checkable
class MethodWithStart(Method, Protocol):
    """A method with something to do once a run, such as taking weights from another run's model file."""

    def on_train_start(self) -> None:
        """Called before the first step, on every process; not where a run is resumed from a checkpoint behind that."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """What has a state that a checkpoint must hold beside the networks (a method's image pool), as torch's modules do.

    A state is tensors, numbers, text, booleans and None, in lists, tuples and dicts. Each process has its own; a run
    is resumed exactly on as many processes.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """All that a resumed run must have."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        """Take back what :meth:`state_dict` gave, tensors where they were: on the CPU, or on the process's device."""
        ...


class Metric(Protocol):
    """A measure of outputs against targets, with the interface of torchmetrics, whose metrics are such components.

    It is reset, updated and computed for each image by itself, and the mean over the images counts. One with an
    attribute ``over = "set"`` (FID, say) is updated with all images in order and computed once; where it has
    ``features(image)``, a tensor that depends on the image alone, ``update`` is given those of output and target.
    Both may ask for ``source`` too. Images are float32 in [0, 1], or from the lowest to the highest number of an
    attribute ``value_range``, on the CPU. What else its numbers depend on is in ``computed_with``, texts by name.
    """

    higher_is_better: bool | None
    """None where that cannot be said; such a metric cannot decide which model is the best."""

    def update(self, output: Tensor, target: Tensor, /) -> None:
        """Take in one image and its target, [1, C, H, W], or the features of each."""
        ...

    def compute(self) -> Tensor | float | Mapping[str, Tensor | float]:
        """A number, which goes by the name of the component, or numbers by name, of what came since :meth:`reset`."""
        ...

    def reset(self) -> None:
        """Forget what has been taken in."""
        ...


class Encoding(Protocol):
    """What the networks see in place of a source: one channel a class of a label map, say. A torch module.

    Generator and discriminator are made for its channels; files, samples and translation have the sources themselves.
    Its factory may ask for ``source_channels``, and for ``source_range``, the values that -1 and 1 stand for.
    A method ``picture(source)``, if there is one, gives [N, 3, H, W] in [-1, 1] for sample grids. One of class maps has
    ``classes``, their number, ``void``, a number or None, and ``class_numbers(source)`` [N, H, W], which are counted.
    """

    channels: int
    resampling: Resampling
    """How sources are resized before they are encoded."""

    def __call__(self, source: Tensor) -> Tensor:
        """Sources [N, Cs, H, W] in [-1, 1] to [N, channels, H, W] in [-1, 1]: a function of each source by itself."""
        ...


class Augmentation(Protocol):
    """Changes the images of a training sample at random. Any transform of torchvision.transforms.v2 is one.

    What it draws comes from the global random states of torch (on the CPU), NumPy and Python, which are seeded for each
    sample and put back afterwards; it keeps nothing from one call to the next, and can be pickled.
    """

    def __call__(self, source: Any, target: Tensor, *mask: Tensor) -> Sequence[Any]:
        """Source [Cs, H, W] and target [Ct, H, W], float32 in [0, 1], to two such images of one size.

        They are ``tv_tensors.Image``; a source that is resampled to the nearest pixel, a label map, is a
        ``tv_tensors.Mask``: its values may move, but not be mixed or changed. Values outside [0, 1] are clipped.
        Several sources are a dict of these by name, and come back as one. Where samples have a mask, it comes third, a
        ``tv_tensors.Mask`` [1, H, W] that moves with the target, and comes back third; 0 is a pixel that is not there.

        Raises:
            TypeError, ValueError: it takes no dict, no mask, or no target larger than its source.
        """
        ...


class Generator(Protocol):
    """Translates. Its noise comes from torch's own dropout modules and from those of p2pkit.networks.latent.

    Its factory may ask for ``source_channels`` (of all sources together), ``target_channels``, and for ``scale``, how
    many times as high and wide as sources the targets are; one that does not ask is for targets of the same size.

    The policy of translation acts on those noises and on torch's own batch norms alone. An attribute ``channels_last``
    that is true says that maps may come to its modules in that memory format, which a CPU translates faster by.
    """

    def __call__(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, H, W] in [-1, 1], or [N, Ct, scale * H, scale * W]."""
        ...


@runtime_checkable
class SizedGenerator(Protocol):
    """A generator that takes only some sizes; images of others are padded by reflection, and outputs cropped back.

    A generator without these attributes takes any size.
    """

    size_multiple: int
    """Height and width must be multiples of this."""
    smallest_size: int
    """Height and width must be no smaller than this."""


def dtype_range(dtype: np.dtype[Any]) -> ValueRange:
    """The range of values that pixels of ``dtype`` have where none is declared.

    All that the type holds for integers of up to 32 bits, (0, 1) for floats and bool. Raises KeyError for others.
    """
    if dtype.kind in "fb":
        return 0.0, 1.0
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        raise KeyError(dtype)
    lowest = -(2.0 ** (8 * dtype.itemsize - 1)) if dtype.kind == "i" else 0.0
    return lowest, lowest + 2.0 ** (8 * dtype.itemsize) - 1.0
