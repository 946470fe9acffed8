"""Where a key belongs that stands in the wrong section of a recipe, or is called as other programs call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from p2pkit.components.type_words import written

OF_OTHER_PROGRAMS = {
    "learning_rate": "write lr = {} below [optimizer]",
    "lr": "write lr = {} below [optimizer]",
    "beta1": "write betas = [{}, 0.999] below [optimizer]",
    "n_epochs": "write epochs = {} below [train]",
    "num_epochs": "write epochs = {} below [train]",
    "niter": "write epochs = {} below [train]",
    "batchSize": "write batch_size = {} below [loader]",
    "num_workers": "write workers = {} below [loader]",
    "num_threads": "write workers = {} below [loader]",
    "nThreads": "write workers = {} below [loader]",
    "image_size": "write load_size = {} below [transform]",
    "img_size": "write load_size = {} below [transform]",
    "size": "write load_size = {} below [transform]",
    "loadSize": "write load_size = {} below [transform]",
    "fineSize": "write crop_size = {} below [transform]",
    "crop": "write crop_size = {} below [transform]",
    "dataroot": "write root = {} below [data]",
    "netG": "write [generator], with its name below",
    "netD": "write [discriminator], with its name below",
    "ngf": "write width = {} below [generator]",
    "ndf": "write width = {} below [discriminator]",
    "lambda_L1": 'write weight = {} below [[losses]], under name = "l1"',
    "gan_mode": "write name = {} below [[losses]]",
    "pretrained": "write init_from = {} below [train]",
    "checkpoint": "write init_from = {} below [train]",
    "gpu_ids": "leave it out, and choose by the option --device",
}
"""What other programs call keys, and what to write here in place of them; {} is the value."""


def where_it_belongs(name: str, value: Any, homes: Mapping[str, Iterable[str]]) -> str:
    """What to write for a key called ``name`` that its table does not have; "" where that is not known.

    ``homes`` are the recipe's sections, each with the names of its keys.
    """
    sections = [f"[{section}]" for section, names in homes.items() if name in names]
    if sections and name not in OF_OTHER_PROGRAMS:
        return f"write {name} = {written(value)} below {' or '.join(sections)}"
    return OF_OTHER_PROGRAMS.get(name, "").replace("{}", written(value))
