"""Recipe: what a city's forecaster is trained by.

The validation days choose the number of epochs; the networks that serve are then trained again on these
days too (refit), for as many epochs. Several networks that differ in their seed make an ensemble. Where
windows are many a refit would learn next to nothing new: its time goes to a second ensemble, of networks
that see past flow without covariates and forecast the flow itself (raw ensemble). The two err differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from forecasting.covariates.config import MANY as MANY_WINDOWS
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.networks import DEFAULT, entry_of
from forecasting.training.state import TrainingConfig
from forecasting.trees import forecaster as trees

DEFAULT_TRAINING = TrainingConfig(epochs=6, batch=32, average=0.99, loss="huber", patience=3)
"""How networks of cities are trained unless an option says otherwise."""
MIN_EPOCHS, WINDOWS_PER_FIT = 2, 400_000
"""Epochs of a fit at least, and windows seen in all after which it gets no more epochs than these."""
WINDOWS_PER_SMALL_FIT, MAX_EPOCHS_OF_SMALL_FIT = 16_000, 60
"""Windows that a fit of a few weeks sees in all, and the epochs that it gets for this at most."""
MIN_MINUTES_FOR_TREES, MINUTES_OF_TREES = 5.0, 2.0
"""Minutes of a budget from which on trees are fitted too, and how many of them they take."""
ENSEMBLE_SIZE, ENSEMBLE_SIZE_OF_MANY, MAX_WINDOWS_PER_EPOCH = 3, 2, 150_000
"""Networks of each ensemble, and where windows are many; only one where together they would see more than so
many windows in an epoch."""
STORED_NAMES = {
    "ensemble_size": "members",
    "refit": "final",
    "toggled": "swapped",
    "holdout_days": "held",
    "warm_start": "start",
    "raw_ensemble": "plain",
}
"""Fields that have another name in checkpoints and results on disk."""


@dataclass(frozen=True)
class Recipe:
    """What a city's forecaster is trained by; None leaves a choice to the number of windows.

    Attributes:
        network: key in `NETWORKS`; it is built in its quick size.
        context: covariates of the network. None: the default for the number of windows, less `without`, plus
            `also`, and each of `toggled` the other way.
        training: of each fit; its `minutes` are for all fits together.
        ensemble_size: networks of each ensemble, whose mean is the forecast; their seeds follow one another.
        refit: whether the networks that serve are trained on train + validation. None: where windows are
            few.
        epochs: of each fit, at most, a third more for raw networks. None: those of `training` where windows
            are neither few nor many.
        until: newest slot that is used, ISO 8601, UTC; "" for all that is stored.
        holdout_days: newest days that no fit sees; None: the city's test days.
        warm_start: version whose weights the fits begin with where shapes fit; "" for none.
        trees: whether trees are stacked on the networks. None: where scikit-learn is installed and there
            are `MIN_MINUTES_FOR_TREES` minutes or more.
        raw_ensemble: whether a second ensemble without covariates is stacked. None: where windows are many.
        optimizer: key in `OPTIMIZERS`. None: Muon where windows are many.
    """

    network: str = DEFAULT
    context: CovariatesConfig | None = None
    training: TrainingConfig = DEFAULT_TRAINING
    ensemble_size: int | None = None
    refit: bool | None = None
    epochs: int | None = None
    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    toggled: tuple[str, ...] = ()
    until: str = ""
    holdout_days: int | None = None
    warm_start: str = ""
    trees: bool | None = None
    raw_ensemble: bool | None = None
    optimizer: str | None = None

    def __post_init__(self) -> None:
        CovariatesConfig().changed(without=self.without, also=(*self.also, *self.toggled))
        if both := sorted({*self.without} & {*self.also}):
            raise ValueError(f"{both[0]!r} cannot be switched off and on at once")
        if self.ensemble_size is not None and self.ensemble_size < 1:
            raise ValueError(f"an ensemble of {self.ensemble_size} networks is less than 1")

    def resolved(self, windows: int) -> "Recipe":
        """Returns the recipe with every choice made for a number of training windows.

        With many windows networks of an ensemble differ less, and each takes longer.
        """
        many = windows >= MANY_WINDOWS
        usual = CovariatesConfig.for_windows(windows).changed(without=self.without, also=self.also)
        toggled = {name: not getattr(usual, name) for name in self.toggled}
        context = self.context or replace(usual, **toggled)
        raw = (many if self.raw_ensemble is None else self.raw_ensemble) and context != RAW_FLOW
        size = ENSEMBLE_SIZE_OF_MANY if many else ENSEMBLE_SIZE
        affordable = windows * (1 + raw) * size <= MAX_WINDOWS_PER_EPOCH
        with_trees, minutes = self.trees, self.training.minutes
        if with_trees is None:
            enough = minutes is None or minutes >= MIN_MINUTES_FOR_TREES
            with_trees = trees.installed() and enough
        epochs = self.epochs or self._epochs(windows)
        optimizer = self.optimizer or ("muon" if many else DEFAULT_TRAINING.optimizer)
        return replace(
            self,
            context=context,
            training=replace(self.training, epochs=epochs, optimizer=optimizer),
            ensemble_size=self.ensemble_size or (size if affordable else 1),
            epochs=epochs,
            trees=with_trees,
            raw_ensemble=raw,
            optimizer=optimizer,
            refit=not many if self.refit is None else self.refit,
        )

    def _epochs(self, windows: int) -> int:
        if windows >= MANY_WINDOWS:
            most = entry_of(self.network).epochs
        else:
            most = min(-(-WINDOWS_PER_SMALL_FIT // windows), MAX_EPOCHS_OF_SMALL_FIT)
        enough = max(MIN_EPOCHS, -(-WINDOWS_PER_FIT // windows))
        return min(enough, max(self.training.epochs, most))

    @classmethod
    def from_options(
        cls,
        *,
        network: str | None = None,
        without: Sequence[str] = (),
        also: Sequence[str] = (),
        ensemble_size: int | None = None,
        refit: bool | None = None,
        epochs: int | None = None,
        trees: bool | None = None,
        raw_ensemble: bool | None = None,
        optimizer: str | None = None,
        **training: Any,
    ) -> "Recipe":
        """Returns the default recipe with these fields, of it or of its `TrainingConfig`; None changes none.

        Raises:
            ValueError: the options do not go together.
        """
        changes = {name: value for name, value in training.items() if value is not None}
        return cls(
            network or DEFAULT,
            training=replace(DEFAULT_TRAINING, **changes),
            ensemble_size=ensemble_size,
            refit=refit,
            epochs=epochs,
            without=tuple(without),
            also=tuple(also),
            trees=trees,
            raw_ensemble=raw_ensemble,
            optimizer=optimizer,
        )

    def to_fields(self) -> dict[str, Any]:
        """Returns all fields by the names that they have on disk, for JSON."""
        return {STORED_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Recipe":
        """Returns the recipe whose `to_fields` were written, by this version or an older one.

        Raises:
            KeyError: a field is missing.
            TypeError: there is an unknown one.
        """
        # Older recipes had no choice of these two.
        own = {"plain": False, "optimizer": "adamw", **fields}
        own |= {name: tuple(own[name]) for name in ("without", "also", "swapped")}
        own["context"] = own["context"] and CovariatesConfig(**own["context"])
        own["training"] = TrainingConfig(**own["training"])
        names = {stored: name for name, stored in STORED_NAMES.items()}
        return cls(**{names.get(name, name): value for name, value in own.items()})
