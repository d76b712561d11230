"""The state of a training: what is trained, how far it is, and all that it needs to go on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from forecasting.training.losses import LOSSES
from forecasting.training.optimizers import OPTIMIZERS
from forecasting.training.schedules import SCHEDULES

MOST_EPOCHS = 10_000


@dataclass(frozen=True)
class TrainingConfig:
    """What is trained; `Computing` says how.

    Attributes:
        epochs: number of passes over the windows; with `minutes` the most there may be.
        minutes: time to train in, None for as long as it takes. The number of epochs that fit is
            planned anew after each.
        history: slots that the network sees.
        horizon: steps ahead that it is trained for.
        batch: windows a step.
        learning_rate: the highest.
        weight_decay: of the weights, apart from the gradients (AdamW's).
        seed: of weights, order of windows and stochastic depth.
        schedule: key in `SCHEDULES`.
        warm_up: part of the training in which the rate rises.
        clip: largest norm that the gradient may have.
        average: decay a step of the moving average of the weights that is validated and chosen
            (Polyak's; bias-corrected as Adam's, arXiv 1412.6980, section 3); 0 for the weights
            as they are.
        loss: key in `LOSSES`.
        patience: epochs without a better one after which training ends; 0 for as many as are planned.
        last: epoch after which it ends though its schedule goes on; 0 for the last that is planned.
        optimizer: key in `OPTIMIZERS`.
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
    average: float = 0.0
    loss: str = "squared"
    patience: int = 0
    last: int = 0
    optimizer: str = "adamw"

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
        if not 0 <= self.average < 1:
            raise ValueError(f"average {self.average} is no decay from 0 to below 1")
        if self.loss not in LOSSES:
            raise ValueError(f"loss {self.loss!r} is none of {', '.join(LOSSES)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer {self.optimizer!r} is none of {', '.join(OPTIMIZERS)}")
        if self.patience < 0 or self.last < 0:
            raise ValueError(f"patience {self.patience} or last {self.last} is less than 0")


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: its mean training loss and the validation error after it.

    Attributes:
        number: from 1.
        loss: mean over the batches, of scaled frames.
        validation: what the `validate` given to `fit` returned, None where there was none.
        best: whether it is better than every epoch before.
        seconds: that this training has taken so far, all its parts together.
    """

    number: int
    loss: float
    validation: float | None
    best: bool
    seconds: float


@dataclass
class TrainingState:
    """All that a training needs to go on: it changes with every step.

    Chance is not in it: that of a step follows from the seed and the step's place.

    Attributes:
        network: at its newest weights.
        optimizer: with its moments; its rate is a tensor, which a captured step reads.
        config: of this training.
        history: the finished epochs.
        best: weights after the epoch with the lowest validation error, on the CPU.
        average: moving averages of the network's parameters, in their order; empty where there are
            none.
        sums: `(2,)` of the running epoch, on the network's device: the losses of its steps added
            up, and how many steps were made.
        seconds: that the running epoch has taken so far.
    """

    network: nn.Module
    optimizer: torch.optim.AdamW
    config: TrainingConfig
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    average: list[Tensor] = field(default_factory=list)
    sums: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    seconds: float = 0.0

    @classmethod
    def start(
        cls, build: Callable[[], nn.Module], config: TrainingConfig, device: torch.device
    ) -> "TrainingState":
        """Returns the state before the first epoch; the weights that `build` draws follow the seed."""
        torch.manual_seed(config.seed)
        network = build().to(device)
        rate = torch.tensor(config.learning_rate, device=device)
        optimizer = OPTIMIZERS[config.optimizer](network, rate, config.weight_decay)
        kept = list(network.parameters()) if config.average else []
        average = [value.detach().clone() for value in kept]
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        return cls(network, optimizer, config, average=average, sums=sums)

    @property
    def device(self) -> torch.device:
        """The device that it is trained on."""
        return self.sums.device

    @property
    def number(self) -> int:
        """Number of the running epoch, from 1."""
        return len(self.history) + 1

    @property
    def step(self) -> int:
        """Steps of the running epoch that were made; a GPU is waited for."""
        return int(self.sums[1])

    def exhausted(self) -> bool:
        """Returns whether training ends before its schedule: nothing better came, or it was to."""
        patience = self.config.patience
        best = max((epoch.number for epoch in self.history if epoch.best), default=0)
        ended = 0 < self.config.last <= len(self.history)
        return ended or 0 < patience <= len(self.history) - best
