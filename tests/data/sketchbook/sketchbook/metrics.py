"""Metrics as torchmetrics has them."""

import torch


class Spread:
    """Several numbers, of a set: how much the means of outputs, and of targets, differ from each other."""

    higher_is_better = True
    over = "set"

    def __init__(self, scale: "float | torch.Tensor" = 1.0, **kwargs) -> None:
        self.scale = scale
        self.reset()

    def update(self, output, target):
        self.output.append(output.mean())
        self.target.append(target.mean())

    def compute(self):
        return {f"{name}_spread": torch.stack(getattr(self, name)).std(correction=0) for name in ("output", "target")}

    def reset(self):
        self.output, self.target = [], []


class Largest:
    """What values of targets there are, in the range that is asked for."""

    higher_is_better = None
    value_range = (0.0, 255.0)

    def update(self, output, target):
        assert output.dtype == target.dtype == torch.float32 and len(output) == len(target) == 1
        assert output.min() >= 0 and output.max() <= 255
        self.value = target.max()

    def compute(self):
        return self.value

    def reset(self):
        self.value = None


class Stored(Largest):
    """In the range that is given unasked."""

    value_range = (0.0, 1.0)

    def compute(self):
        return float(self.value)


class Undirected(Stored):
    higher_is_better = "yes"

    def compute(self):
        return "much"


class Adds:
    """Another library's interface."""

    higher_is_better = True

    def add(self, output, target):
        pass

    def result(self):
        return 1.0
