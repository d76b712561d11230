"""Training: epochs over the windows of a feed; all chance in them follows from the seed.

The loss is the paper's: the mean squared error of all that the network puts out, which of a
recurrent one are `history - 1 + horizon` frames, one step ahead each. AdamW.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.feed import Feed

MOST_EPOCHS = 10_000


def one_cycle(progress: float, warm_up: float) -> float:
    """Returns the rate as part of the highest: a linear warm-up, then a cosine down to 1 %."""
    warm = 1.0 if warm_up == 0 else min(1.0, 0.02 + progress / warm_up)
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def constant(progress: float, warm_up: float) -> float:
    """Returns the highest rate throughout, after a linear warm-up."""
    return 1.0 if warm_up == 0 else min(1.0, 0.02 + progress / warm_up)


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "one-cycle": one_cycle,
    "constant": constant,
}
"""The learning rate as part of the highest, by the part of the training that is done."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: number of passes over the windows; with `minutes` the most there may be.
        minutes: time to train in, None for as long as it takes. The number of epochs that fit is
            planned anew after each.
        history: slots that the network sees.
        horizon: steps ahead that it is trained for.
        batch: windows a step.
        learning_rate: the highest.
        weight_decay: of AdamW.
        seed: of weights, order of windows and stochastic depth.
        schedule: key in `SCHEDULES`.
        warm_up: part of the training in which the rate rises.
        clip: largest norm that the gradient may have.
    """

    epochs: int = 20
    minutes: float | None = None
    history: int = 4
    horizon: int = 4
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    schedule: str = "one-cycle"
    warm_up: float = 0.05
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(f"epochs {self.epochs} and batch {self.batch} are not both 1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes {self.minutes:g} are not more than 0")
        if not 0 <= self.learning_rate <= 1000 or not 0 <= self.weight_decay < math.inf:
            raise ValueError(
                f"learning_rate {self.learning_rate:g} and weight_decay {self.weight_decay:g} are "
                f"not both 0 or more"
            )
        if not self.clip > 0:
            raise ValueError(f"clip {self.clip:g} is not more than 0")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"warm_up {self.warm_up} is no part from 0 to 1")


@dataclass(frozen=True)
class Batch:
    """Progress within an epoch: `done` of `planned` windows, the loss so far, seconds left in all."""

    epoch: int
    epochs: int
    done: int
    planned: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: its mean training loss and the validation error after it.

    Attributes:
        number: from 1.
        loss: mean over the batches, of scaled frames.
        validation: what the `validate` given to `fit` returned.
        best: whether it is better than every epoch before.
        seconds: that this training has taken so far, all its parts together.
    """

    number: int
    loss: float
    validation: float
    best: bool
    seconds: float


@dataclass
class TrainingState:
    """All that a training needs to go on: it changes with every batch.

    Attributes:
        network: at its newest weights.
        optimizer: with its moments.
        config: of this training.
        history: the finished epochs.
        best: weights after the epoch with the lowest validation error, on the CPU.
    """

    network: nn.Module
    optimizer: torch.optim.AdamW
    config: TrainingConfig
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(
        cls, build: Callable[[], nn.Module], config: TrainingConfig, device: torch.device
    ) -> "TrainingState":
        """Returns the state before the first epoch; the weights that `build` draws follow the seed."""
        torch.manual_seed(config.seed)
        network = build().to(device)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        return cls(network, optimizer, config)


def fit(
    state: TrainingState, feed: Feed, validate: Callable[[nn.Module], float]
) -> Iterator[Batch | Epoch]:
    """Trains and yields each batch and each finished epoch.

    On the CPU the epochs after a checkpoint are bit for bit those of an uninterrupted run, for all
    chance in an epoch follows from the seed and the epoch's number.

    Args:
        state: changed in place; it may come from `load_checkpoint`.
        feed: windows of scaled frames on the network's device.
        validate: error of the network on days that it is not trained on.

    Raises:
        FlowcastError: the loss or the validation error is no longer finite.
    """
    clock = _Clock(state)
    while clock.another():
        loss = 0.0
        for batch in _epoch(state, feed, clock):
            loss = batch.loss
            yield batch
        number = len(state.history) + 1
        validation = validate(state.network)
        if not math.isfinite(validation):
            raise FlowcastError(_not_finite(f"validation error after epoch {number}", state.config))
        best = not state.history or validation < min(epoch.validation for epoch in state.history)
        if best:
            state.best = {
                name: value.detach().cpu().clone()
                for name, value in state.network.state_dict().items()
            }
        state.history.append(Epoch(number, loss, validation, best, clock.seconds()))
        yield state.history[-1]


def _epoch(state: TrainingState, feed: Feed, clock: "_Clock") -> Iterator[Batch]:
    """Trains one epoch and yields each batch with the mean loss so far."""
    config, network = state.config, state.network
    number = len(state.history) + 1
    torch.manual_seed(config.seed * MOST_EPOCHS + number)
    order = torch.randperm(len(feed))
    losses: list[float] = []
    network.train()
    for done, batch in enumerate(order.split(config.batch), start=1):
        past, future = feed.take(batch)
        for group in state.optimizer.param_groups:
            group["lr"] = config.learning_rate * clock.rate(config.batch * (done - 1) / len(order))
        state.optimizer.zero_grad()
        outputs = network(past, future.shape[1])
        loss = F.mse_loss(outputs, torch.cat([past, future], dim=1)[:, -outputs.shape[1] :])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        state.optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FlowcastError(_not_finite(f"loss of epoch {number}", config))
        seen = min(done * config.batch, len(order))
        yield Batch(
            number,
            clock.epochs(seen / len(order)),
            seen,
            len(order),
            float(np.mean(losses)),
            clock.left(seen / len(order)),
        )
        if clock.over():
            return


def _not_finite(what: str, config: TrainingConfig) -> str:
    return (
        f"the {what} is not finite; train again with a lower learning rate than "
        f"{config.learning_rate:g} (--learning-rate, or --set training.learning_rate=X)"
    )


def is_finished(state: TrainingState) -> bool:
    """Returns whether no further epoch is planned."""
    return not _Clock(state).another()


class _Clock:
    """Plans the epochs: as many as the configuration says, or as fit into its minutes."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._limit = math.inf if state.config.minutes is None else state.config.minutes * 60
        self._before = state.history[-1].seconds if state.history else 0.0
        self._begun = time.monotonic()

    def seconds(self) -> float:
        """Returns how long the training has taken, its earlier parts included."""
        return self._before + time.monotonic() - self._begun

    def epochs(self, share: float = 0.0) -> int:
        """Returns how many epochs there will be, `share` of the running one being done."""
        done = len(self._state.history)
        if math.isinf(self._limit) or done + share == 0:
            return self._state.config.epochs
        # What is left of an epoch by a quarter or less is worth beginning another.
        fit = int(self._limit / (self.seconds() / (done + share)) + 0.25)
        return min(self._state.config.epochs, max(fit, math.ceil(done + share)))

    def another(self) -> bool:
        """Returns whether another epoch is to begin."""
        return len(self._state.history) < self.epochs()

    def over(self) -> bool:
        """Returns whether the minutes are spent."""
        return self.seconds() > self._limit

    def progress(self, share: float) -> float:
        """Returns the part of the whole training that is done, the running epoch included."""
        by_epochs = (len(self._state.history) + share) / self._state.config.epochs
        return min(1.0, max(by_epochs, self.seconds() / self._limit))

    def rate(self, share: float) -> float:
        """Returns the learning rate as part of the highest."""
        config = self._state.config
        return SCHEDULES[config.schedule](self.progress(share), config.warm_up)

    def left(self, share: float) -> float:
        """Returns the seconds until the end at the speed so far."""
        progress = self.progress(share)
        return max(
            0.0, min(self.seconds() * (1 - progress) / progress, self._limit - self.seconds())
        )
