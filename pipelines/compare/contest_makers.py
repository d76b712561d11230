"""Makers: how those who take part in a contest are fitted. None of them is given the test span."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import xarray as xr

from data.city import City
from data.flow import Split
from forecasting.baselines import BASELINES
from forecasting.city.fit import fitted
from forecasting.city.recipe import DEFAULT_TRAINING, ENSEMBLE_SIZE, Recipe
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.config import ContextConfig
from forecasting.forecaster import Forecaster
from forecasting.training.hardware import Computing
from forecasting.trees import forecaster as trees
from forecasting.trees.features import TreesConfig

if TYPE_CHECKING:
    from pipelines.compare.contestants import Plan


class Made(NamedTuple):
    """What fitting made.

    Attributes:
        forecaster: knows the training and the validation span.
        selected: knows the training span alone; what is told of the validation span is its.
        epochs: or rounds of trees, of the final fit; 0 where there are none.
        plain: share that networks on frames alone have in it beside others.
    """

    forecaster: Forecaster
    selected: Forecaster
    epochs: int = 0
    plain: float = 0.0


class Lessons(NamedTuple):
    """What a contestant may be fitted on.

    Attributes:
        city: that is forecast.
        parts: of its flow; the last one is empty.
        weather: of which a forecast sees what was known when it is made; None where there is none.
    """

    city: City
    parts: Split
    weather: xr.DataArray | None


class Maker(Protocol):
    """Fits a forecaster; it can be pickled.

    Attributes:
        chance: whether another seed makes another forecaster.
    """

    @property
    def chance(self) -> bool:
        """Whether another seed makes another forecaster."""

    def facts(self, plan: "Plan") -> Mapping[str, Any]:
        """Returns all that the forecaster follows from but the flow, as JSON can hold it."""

    def fit(self, lessons: Lessons, plan: "Plan", seed: int) -> Made:
        """Returns the fitted forecaster."""


@dataclass(frozen=True)
class Baseline:
    """A forecaster without training: `key` in `BASELINES`."""

    key: str
    chance: bool = False

    def facts(self, plan: "Plan") -> dict[str, Any]:
        """Returns its name."""
        return {"baseline": self.key}

    def fit(self, lessons: Lessons, plan: "Plan", seed: int) -> Made:
        """Returns it as the days before the test span make it, and those before validation."""
        train, validation, _ = lessons.parts
        both, made = xr.concat([train, validation], "time"), BASELINES[self.key]
        first = made(train, Climatology.fit(train))
        return Made(made(both, Climatology.fit(both)), first)


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted trees.

    Attributes:
        context: whether they are shown more than the newest frames.
        chance: their rows are drawn.
    """

    context: bool
    chance: bool = True

    def facts(self, plan: "Plan") -> dict[str, Any]:
        """Returns their settings and the version of what grows them."""
        return {
            "trees": asdict(TreesConfig(context=self.context)),
            "horizon": plan.horizon,
            "scikit-learn": trees.version(),
        }

    def fit(self, lessons: Lessons, plan: "Plan", seed: int) -> Made:
        """Returns trees that are grown on all days, as many as validation asked for."""
        config = TreesConfig(context=self.context)
        train, validation, _ = lessons.parts
        grown = trees.grow(train, validation, plan.horizon, config, seed, lessons.weather)
        return Made(grown.forecaster, grown.selected, grown.rounds)


@dataclass(frozen=True)
class Network:
    """A network, trained as `forecast train` trains the city's own forecaster.

    Attributes:
        name: key in `NETWORKS`.
        context: what it is shown; None for what is usual.
        training: fields of `TrainingConfig` and their values, where they are not the usual ones.
        final: whether what serves is trained on the validation span too; None for what is usual.
        swapped: parts of the usual context that are off where they are on, and on where they are off.
        trees: whether all is as in the city's own forecaster: several members, trees that see the same,
            and where windows are many networks on frames alone.
        epochs: of each fit, at most; None for as many as the city's own forecaster has.
        chance: its weights are drawn.
    """

    name: str
    context: ContextConfig | None = None
    training: tuple[tuple[str, Any], ...] = ()
    final: bool | None = None
    swapped: tuple[str, ...] = ()
    trees: bool = False
    epochs: int | None = None
    chance: bool = True

    def facts(self, plan: "Plan") -> dict[str, Any]:
        """Returns the recipe, but for the seed, and the versions of what makes it."""
        grower = {"scikit-learn": trees.version()} if self.trees else {}
        return {**self._recipe(plan, seed=0).to_fields(), "flowcast": version("flowcast"), **grower}

    def fit(self, lessons: Lessons, plan: "Plan", seed: int) -> Made:
        """Returns the network after its final fit, or after its selection where there is none."""
        computing = Computing("cpu")
        # Members have seeds in a row: those of two runs are not to be the same.
        recipe = self._recipe(plan, seed * ENSEMBLE_SIZE if self.trees else seed)
        city, parts, weather = lessons
        # Other work on the machine is no reason for fewer epochs.
        how: dict[str, Any] = {"computing": computing, "timer": time.process_time}
        made = fitted(parts, city, recipe, weather=weather, **how)
        share = made.forecaster.plain_share
        return Made(made.forecaster, made.selected, sum(made.epochs), share)

    def _recipe(self, plan: "Plan", seed: int) -> Recipe:
        training = replace(
            DEFAULT_TRAINING,
            minutes=plan.minutes,
            horizon=plan.horizon,
            seed=seed,
            **dict(self.training),
        )
        return Recipe(
            self.name,
            self.context,
            training,
            ensemble_size=None if self.trees else 1,
            epochs=self.epochs,
            refit=self.final,
            toggled=self.swapped,
            trees=self.trees,
            raw_ensemble=None if self.trees else False,
        )
