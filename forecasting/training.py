"""Training: epochs over windows cut from one tensor; all chance in them follows from the seed.

The loss is the paper's: the mean squared error of all `history - 1 + horizon` outputs of the
rollout. AdamW with a warm-up and a cosine decay that ends with the last planned epoch.
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

MOST_EPOCHS = 10_000


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
    """

    epochs: int = 20
    minutes: float | None = None
    history: int = 4
    horizon: int = 4
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0


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
    state: TrainingState, frames: Tensor, starts: Tensor, validate: Callable[[nn.Module], float]
) -> Iterator[Batch | Epoch]:
    """Trains and yields each batch and each finished epoch.

    On the CPU the epochs after a checkpoint are bit for bit those of an uninterrupted run, for all
    chance in an epoch follows from the seed and the epoch's number.

    Args:
        state: changed in place; it may come from `load_checkpoint`.
        frames: scaled frames `(t, c, y, x)` on the network's device.
        starts: positions in `frames` at which a whole window of history + horizon begins.
        validate: error of the network on days that it is not trained on.

    Raises:
        FlowcastError: the loss is no longer finite.
    """
    clock = _Clock(state)
    while clock.another():
        loss = 0.0
        for batch in _epoch(state, frames, starts, clock):
            loss = batch.loss
            yield batch
        validation = validate(state.network)
        best = not state.history or validation < min(epoch.validation for epoch in state.history)
        if best:
            state.best = {
                name: value.detach().cpu().clone()
                for name, value in state.network.state_dict().items()
            }
        number = len(state.history) + 1
        state.history.append(Epoch(number, loss, validation, best, clock.seconds()))
        yield state.history[-1]


def _epoch(
    state: TrainingState, frames: Tensor, starts: Tensor, clock: "_Clock"
) -> Iterator[Batch]:
    """Trains one epoch and yields each batch with the mean loss so far."""
    config, network = state.config, state.network
    number = len(state.history) + 1
    torch.manual_seed(config.seed * MOST_EPOCHS + number)
    order = starts[torch.randperm(len(starts)).to(starts.device)]
    length = torch.arange(config.history + config.horizon, device=frames.device)
    losses: list[float] = []
    network.train()
    for done, batch in enumerate(order.split(config.batch), start=1):
        windows = frames[batch[:, None] + length]
        for group in state.optimizer.param_groups:
            group["lr"] = config.learning_rate * clock.rate(config.batch * (done - 1) / len(order))
        state.optimizer.zero_grad()
        outputs = network(windows[:, : config.history], config.horizon)
        loss = F.mse_loss(outputs, windows[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FlowcastError(
                f"the loss of epoch {number} is not finite; train again with a lower --learning-rate "
                f"than {config.learning_rate:g}"
            )
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
        """Returns the learning rate as part of the highest: warm-up, then a cosine down to 1 %."""
        progress = self.progress(share)
        warm_up = min(1.0, 0.02 + progress / 0.05)
        return warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)

    def left(self, share: float) -> float:
        """Returns the seconds until the end at the speed so far."""
        progress = self.progress(share)
        return max(
            0.0, min(self.seconds() * (1 - progress) / progress, self._limit - self.seconds())
        )
