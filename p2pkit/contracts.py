"""What a component of each kind must be, in types. The trainer and the plugins meet here and nowhere else.

Pixel arrays are ``[height, width, channels]`` as stored, integers or floating point; tensors are
``[N, channels, height, width]`` in [-1, 1], to which each side of a pair is normalized by its range of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

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
    """What is known of a sample without its pixels: both shapes (height, width, channels), and its key."""

    source: Shape
    target: Shape
    key: str


class Sample(NamedTuple):
    """One example: two images of one height and width, and a key for messages and file names.

    Images are pixels as stored: NumPy arrays [H, W, C] or [H, W], PIL images, or torch tensors [C, H, W] or [H, W].
    p2pkit itself gives arrays [H, W, C], and None for the side that a sample of an unpaired data set does not have.
    """

    source: NDArray[Any] | Any
    target: NDArray[Any] | Any
    key: str = ""

    @property
    def header(self) -> SampleHeader:
        """The shapes of this sample's arrays."""
        source: Any = getattr(self.source, "shape", NO_IMAGE)
        target: Any = getattr(self.target, "shape", NO_IMAGE)
        return SampleHeader(source, target, self.key)


class PairedDataset(Protocol):
    """A map-style data set. It does not crop, flip, scale or shuffle: that is done once for all data sets.

    It goes to the processes that load data, forked or pickled, and gives the same samples there and whenever it is
    made again. What it draws comes from the global random states of Python, NumPy or torch, which are seeded for
    each sample by (seed, epoch, index) and put back afterwards; it keeps no generator of its own between samples.

    Its factory may ask for ``split`` and says by its annotation which it has: Literal["train", "val", "test"] is
    :data:`Split`. Without the parameter there is a train set alone; annotated with anything else, train and test.
    The val and the test set may be empty. Optional:

    - ``header(index)``: shapes without reading pixels (:class:`DatasetWithHeaders`).
    - ``fingerprint()``: a short text that changes when the data does; without it, it is made of 64 of the samples.
    - ``shards``: the numbers of pairs in files best read one after another, in their order. Training then shuffles
      shards, and pairs within about a thousand consecutive ones, instead of all pairs.
    - ``key(index)``, ``group(index)``: for ``[data] split``, keys without reading, and what stays in one set.
    - ``notices``: texts on what must not pass in silence; ``problems``: on what must be mended, which end a run.
    - ``target_ending``: that of its targets' files (".tif", say); translations become files of its format.
    - ``stored_as``: "left half" or "right half" where sources are halves of files; translation then takes such files.
    - ``source_files``, ``target_files``: the paths of what it reads. A file of two sets is refused, or reported.
    """

    def __len__(self) -> int:
        """The number of pairs."""
        ...

    def __getitem__(self, index: int) -> Any:
        """The pair at ``index``: a Sample, a tuple (source, target), or a dict with these names, and "key" perhaps.

        Images are as in :class:`Sample`; keys are unique, in all splits together, and made of the index where there
        are none. Raises DataError naming the file when it cannot be read.
        """
        ...


class UnpairedDataset(Protocol):
    """A data set whose sources and targets do not correspond: ``paired = False``, all else as in PairedDataset.

    In training the target of each source is drawn by (seed, epoch, place in the epoch), and each is cropped, flipped
    and augmented by itself. Beside ``header(index)`` it has ``target_header(index)``, with NO_IMAGE for the other side.
    """

    paired: Literal[False]
    targets: int
    """The number of targets."""

    def __len__(self) -> int:
        """The number of sources."""
        ...

    def __getitem__(self, index: int) -> Any:
        """A source: the image alone, or a Sample whose target is None."""
        ...

    def target(self, index: int) -> Any:
        """A target: the image alone, or a Sample whose source is None."""
        ...


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
    """What a training step sees: tensors [N, C, H, W] in [-1, 1] and the keys of the N pairs."""

    source: Tensor
    target: Tensor
    keys: list[str]


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
    Images are float32 in [0, 1], or from the lowest to the highest number of an attribute ``value_range``, on the CPU.
    What else its numbers depend on is in ``computed_with``, texts by name (``{"weights": "sha256 1a2b3c4d"}``).
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
    """Changes the two images of a training sample at random. Any transform of torchvision.transforms.v2 is one.

    What it draws comes from the global random states of torch (on the CPU), NumPy and Python, which are seeded for each
    sample and put back afterwards; it keeps nothing from one call to the next, and can be pickled.
    """

    def __call__(self, source: Tensor, target: Tensor) -> Sequence[Tensor]:
        """Source [Cs, H, W] and target [Ct, H, W], float32 in [0, 1], to two such images of one size.

        They are ``tv_tensors.Image``; a source behind an encoding that resamples to the nearest pixel, a label map, is
        a ``tv_tensors.Mask``: its values may move, but not be mixed or changed. Values outside [0, 1] are clipped.
        """
        ...


class Generator(Protocol):
    """Translates. Its noise comes from torch's own dropout modules and from those of p2pkit.networks.latent.

    The policy of translation acts on those and on torch's own batch norms alone.
    """

    def __call__(self, source: Tensor) -> Tensor:
        """Source [N, Cs, H, W] in [-1, 1] to target [N, Ct, H, W] in [-1, 1]."""
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
