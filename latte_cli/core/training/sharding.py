"""AdamW whose state is divided among the workers: stage 1 of ZeRO (Rajbhandari et al. 2020, section 5.1).

A whole parameter's state is with one worker, as in PyTorch's ZeroRedundancyOptimizer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from mindspore import Parameter, Tensor, ops

from latte_cli.core.arrays import Array
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.optimizer import AdamW, like, state_names


class Part(NamedTuple):
    """A tensor of a run that only its `owner` holds; `held` is None in all other workers."""

    owner: int
    shape: tuple[int, ...]
    held: Parameter | None

    def gather(self, collective: Collective) -> Array:
        """Its numbers, in every worker. Must be called by all workers, in the same order."""
        held = self.held
        numbers = np.zeros(self.shape, np.float32) if held is None else held.asnumpy().copy()
        collective.send([numbers], [self.owner])
        return numbers


class ShardedAdamW:
    """`AdamW`, of which each worker holds and updates the parameters that it owns.

    Only the owner of a parameter has its moments and its average; every worker has the parameter.
    """

    def __init__(self, parameters: Sequence[Parameter], collective: Collective, *, weight_decay: float = 0.0):
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.owners = owners([parameter.size for parameter in self.trained], collective.world.size)
        rank = collective.world.rank
        self._places = [place for place, owner in enumerate(self.owners) if owner == rank]
        self._own = AdamW([self.trained[place] for place in self._places], weight_decay=weight_decay)
        self._copies: dict[str, Parameter] = {}
        self._collective = collective

    def apply(
        self, gradients: Sequence[Array], step: int, *, rate: float, average: float, factor: float
    ) -> None:
        """As `AdamW.apply`; must be called by all workers, with the same values."""
        own = [gradients[place] for place in self._places]
        self._own.apply(own, step, rate=rate, average=average, factor=factor)
        self._collective.send(self.trained, self.owners)

    def in_graph(self, ema_decay: float) -> Callable[..., None]:
        """As `AdamW.in_graph`; the workers' graphs must run together."""
        own, places, trained = self._own.in_graph(ema_decay), self._places, self.trained
        send = self._collective.send_in_graph(self.owners)

        def update(gradients, step, rate, factor, is_good):  # type: ignore[no-untyped-def]
            own([gradients[place] for place in places], step, rate, factor, is_good)
            sent = is_good  # known once all gradients have been exchanged
            for place in range(len(trained)):
                sent = send[place](trained[place], sent)

        return update

    def state(self) -> dict[str, Part]:
        """As `AdamW.state`."""
        held, found = self._own.state(), {}
        for parameter, owner in zip(self.trained, self.owners, strict=True):
            for name in state_names(parameter.name):
                found[name] = Part(owner, tuple(parameter.shape), held.get(name))
        return found

    def averaged(self, parameters: Iterable[Parameter]) -> dict[str, Parameter]:
        """As `AdamW.averaged`; averages of other workers are as they were at the last `collect`."""
        own = self._own.averaged([])
        for parameter in self.trained:
            if parameter.name not in own and parameter.name not in self._copies:
                self._copies[parameter.name] = like(parameter, "copy")
        return {parameter.name: parameter for parameter in parameters} | own | self._copies

    def collect(self) -> None:
        """Update what `averaged` gave; must be called by all workers, also by those without copies."""
        for name, part in self.state().items():
            if name.startswith("ema/"):
                numbers = part.gather(self._collective)
                copy = self._copies.get(name.removeprefix("ema/"))
                if copy is not None:
                    ops.assign(copy, Tensor(numbers))


Optimizer: TypeAlias = AdamW | ShardedAdamW


def optimizer_of(model: Transformer, train: TrainSettings, collective: Collective) -> Optimizer:
    """The optimizer of a model's trained parameters, sharded if `train.shard_optimizer` is set."""
    parameters = list(model.get_parameters())
    if train.shard_optimizer:
        return ShardedAdamW(parameters, collective, weight_decay=train.weight_decay)
    return AdamW(parameters, weight_decay=train.weight_decay)


def owners(sizes: Sequence[int], workers: int) -> list[int]:
    """The worker that holds the state of each parameter of these sizes.

    The largest parameter goes to the worker with the least so far, then the second largest, and so on.
    """
    loads, found = [0] * workers, [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        found[place] = loads.index(min(loads))
        loads[found[place]] += sizes[place]
    return found
