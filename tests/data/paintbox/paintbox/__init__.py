"""A distribution as somebody else would write it: a component of each kind, all in one plugin."""

from p2pkit import hookimpl
from p2pkit.hookspecs import Register


@hookimpl
def register_generators(register: Register) -> None:
    from paintbox.networks import Brush

    register("brush", Brush)


@hookimpl
def register_discriminators(register: Register) -> None:
    from paintbox.networks import Critic

    register("critic", Critic)


@hookimpl
def register_encodings(register: Register) -> None:
    from paintbox.networks import Thermometer

    register("thermometer", Thermometer)


@hookimpl
def register_losses(register: Register) -> None:
    from paintbox.training import Contrast

    register("contrast", Contrast)


@hookimpl
def register_methods(register: Register) -> None:
    from paintbox.training import Alternating, Freehand

    register("alternating", Alternating)
    register("freehand", Freehand)


@hookimpl
def register_datasets(register: Register) -> None:
    from paintbox.pictures import Gradients, Sheets

    register("gradients", Gradients)
    register("sheets", Sheets)


@hookimpl
def register_metrics(register: Register) -> None:
    from paintbox.pictures import WorstPixel

    register("worst_pixel", WorstPixel)


@hookimpl
def register_augmentations(register: Register) -> None:
    from paintbox.shaking import Shaking

    register("shaking", Shaking)


@hookimpl
def register_exporters(register: Register) -> None:
    from paintbox.exporting import Program

    register("program", Program)


@hookimpl
def register_image_formats(register: Register) -> None:
    from paintbox.pictures import Swatch

    register("swatch", Swatch)


@hookimpl
def register_optimizers(register: Register) -> None:
    from paintbox.running import careful

    register("careful", careful)


@hookimpl
def register_schedules(register: Register) -> None:
    from paintbox.running import Layers

    register("layers", Layers)


@hookimpl
def register_callbacks(register: Register) -> None:
    from paintbox.running import Visitors

    register("visitors", Visitors)
