"""Exponential moving average of the trained parameters: a few MB, never the frozen backbone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Moving average from step 0: average <- decay * average + (1 - decay) * parameter.

    Args:
        parameters: (name, parameter) pairs to average, as `model.trainable_parameters()` gives.
        decay: in (0, 1); see `decay_for`.

    Attributes:
        average: {name: tensor}, detached copies on the parameters' devices.

    Source: Polyak averaging as in the authors' release, which averages the backbone too.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.parameters = dict(parameters)
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}

    @staticmethod
    def decay_for(left: float, steps: int) -> float:
        """Decay per step that leaves the share `left` of the start after `steps` steps.

        Example:
            >>> round(EMA.decay_for(0.25, 2), 3)
            0.5
        """
        return left ** (1 / max(steps, 1))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current parameters; once per optimiser step."""
        torch._foreach_lerp_(
            list(self.average.values()),
            [value.detach() for value in self.parameters.values()],
            1 - self.decay,
        )

    def load(self, average: dict[str, Tensor]) -> None:
        """Continue from a saved average with the same names."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the model holds the average; afterwards its own weights, bit for bit."""
        own = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
