"""Gradient-boosted trees as a forecaster: each cell by itself, told of its neighbors and its city.

They see what a network of the city sees (see `context`), cell by cell: its newest frames and those of
the other channel, what its neighbors and the city differ by, and what is told of the step that is
forecast. One set of trees a lead forecasts how the cell differs from a share of its newest frame.
Histogram-based trees after LightGBM (Ke et al., NeurIPS 2017), of scikit-learn, which grows them and is
not needed to forecast (see `onnx_trees`).
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr

from data import windows
from data.errors import FlowcastError
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.covariates.covariates import Covariates, NetworkInputs
from forecasting.forecaster import label_forecast
from forecasting.history import History
from forecasting.trees.features import Table, TreesConfig, TreeTask, cells, parts

MISSING = (
    "the trees need scikit-learn; install it: pip install scikit-learn, or do without them: "
    "forecast train --no-trees, forecast compare --networks swinlstm-b,convlstm"
)


class Sum(Protocol):
    """The trees of a lead."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the sum of all trees `(n,)` for rows `(n, f)`."""


@dataclass(frozen=True)
class Trees:
    """Grown trees.

    Attributes:
        models: of each lead, from 1.
        shares: of the newest frame that each lead begins with.
        history: newest frames that they see.
    """

    models: tuple[Sum, ...]
    shares: tuple[float, ...]
    history: int

    @property
    def lags(self) -> tuple[int, ...]:
        """The newest slots, oldest first."""
        return tuple(range(self.history - 1, -1, -1))

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps that they are told of: the newest one, and those that are forecast."""
        return tuple(range(min(horizon, len(self.models)) + 1))

    def differences(self, seen: NetworkInputs, scale: np.ndarray) -> np.ndarray:
        """Returns what the forecast differs from the base by.

        Args:
            seen: of windows, at `lags` and `targets`.
            scale: `(c, y, x)` vehicles that stand for 1 in a frame.

        Returns:
            float32 `(b, h, c, y, x)`, vehicles, of as many leads as `targets` has.
        """
        b, _, *frame = seen.frames.shape
        values = np.empty((b, seen.maps.shape[1] - 1, *frame), dtype=np.float32)
        for part in parts(b):
            for lead in range(1, values.shape[1] + 1):
                rows = cells(seen, part, lead, scale)
                made = self.models[lead - 1].predict(rows.features)
                made = made + self.shares[lead - 1] * rows.newest
                values[part, lead - 1] = made.reshape(values[part, lead - 1].shape)
        return values


@dataclass(frozen=True)
class TreesForecaster:
    """Trees alone as a forecaster.

    Attributes:
        trees: of a city.
        context: of it.
        weather: as `forecasting.ensemble.NeuralForecaster` has it.
        name: for tables.
    """

    trees: Trees
    context: Covariates
    weather: xr.DataArray | None = None
    name: str = "trees"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slots, oldest first."""
        return self.trees.lags

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of days and weeks before, which may be missing."""
        return self.context.optional_lags(self.trees.lags, self.trees.targets(horizon))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps, in vehicles; as `Forecaster` says.

        Raises:
            FlowcastError: no trees were grown for so many steps.
        """
        if horizon > len(self.trees.models):
            raise FlowcastError(
                f"the trees were grown for {len(self.trees.models)} steps ahead, not for {horizon}"
            )
        slots = self.trees.lags, self.trees.targets(horizon)
        seen = self.context.inputs(history, *slots, horizon, self.weather)
        return label_forecast(seen.base + self.trees.differences(seen, self.context.scale), history)


class TreesFit(NamedTuple):
    """Trees of a city.

    Attributes:
        forecaster: knows the training and the validation span.
        selected: knows the training span alone.
        rounds: trees of all leads of the former.
    """

    forecaster: TreesForecaster
    selected: TreesForecaster
    rounds: int


def installed() -> bool:
    """Returns whether scikit-learn is there, with which trees are grown."""
    return importlib.util.find_spec("sklearn") is not None


def version() -> str:
    """Returns the version of scikit-learn.

    Raises:
        FlowcastError: it is not installed.
    """
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise FlowcastError(MISSING) from error


def fit_trees(
    train: xr.DataArray,
    validation: xr.DataArray,
    horizon: int,
    config: TreesConfig,
    seed: int,
    weather: xr.DataArray | None = None,
) -> TreesFit:
    """Returns trees grown on both spans, as many as did best on the second when grown on the first.

    Args:
        train: flow, dims `(time, channel, y, x)`.
        validation: the flow that follows.
        horizon: number of steps ahead.
        config: how.
        seed: of the rows that are drawn.
        weather: dims `(time, variable)`, from when each value is known; None where there is none.

    Raises:
        FlowcastError: scikit-learn is not installed, or there is no whole window.
    """
    version()
    both = xr.concat([train, validation], "time")
    usual = CovariatesConfig.for_windows(len(windows.whole(train, config.lags, horizon)))
    shown = usual if config.context else RAW_FLOW
    first = TreeTask.of(train, shown, config, seed, weather, horizon)
    *_, chosen = select(first, both, horizon)
    last = TreeTask.of(both, shown, config, seed, weather, horizon)
    *_, final = refit_trees(last, [one.rounds for one in chosen])
    serving = TreesForecaster(together(final, config), last.context, weather)
    selected = TreesForecaster(together(chosen, config), first.context, weather)
    return TreesFit(serving, selected, sum(one.rounds for one in final))


class Model(NamedTuple):
    """Trees of a lead, the share of the newest frame that they begin with, and how many they are."""

    model: Any
    share: float
    rounds: int


def together(models: Sequence[Model], config: TreesConfig) -> Trees:
    """Returns the trees of all leads."""
    grown, shares, _ = zip(*models, strict=True)
    return Trees(grown, shares, config.history)


def select(lesson: TreeTask, both: xr.DataArray, horizon: int) -> Iterator[list[Model]]:
    """Yields the trees of the first leads as they are grown, as many as do best on what follows.

    Args:
        lesson: that they are grown on.
        both: its flow, and that by which they are judged.
        horizon: leads.
    """
    judges = lesson.judges(both, horizon)
    models: list[Model] = []
    for lead, judge in enumerate(judges, start=1):
        models.append(_grown(lesson.rows(lead), judge, lesson.config, lesson.seed))
        yield models


def refit_trees(lesson: TreeTask, rounds: Sequence[int]) -> Iterator[list[Model]]:
    """Yields the trees of the first leads as they are grown, as many as `rounds` says for each."""
    models: list[Model] = []
    for lead, count in enumerate(rounds, start=1):
        models.append(_grown(lesson.rows(lead), count, lesson.config, lesson.seed))
        yield models


def _grown(table: Table, judge: Table | int, config: TreesConfig, seed: int) -> Model:
    """Returns trees, as many as do best on the rows of `judge`, or as many as it says."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    share = float(table.newest @ table.target / max(float(table.newest @ table.newest), 1e-9))
    target = table.target - share * table.newest
    grower = HistGradientBoostingRegressor(
        learning_rate=config.rate,
        max_leaf_nodes=config.leaves,
        max_iter=config.rounds if isinstance(judge, Table) else max(judge, 1),
        early_stopping=isinstance(judge, Table),
        n_iter_no_change=config.patience,
        tol=0.0,
        random_state=seed,
    )
    if not isinstance(judge, Table):
        return Model(grower.fit(table.features, target), share, judge)
    aside = judge.target - share * judge.newest
    grower.fit(table.features, target, X_val=judge.features, y_val=aside)
    return Model(grower, share, int(np.argmax(grower.validation_score_)))
