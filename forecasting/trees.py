"""Gradient-boosted trees as a forecaster: each cell by itself, told of its neighbours and its city.

They see what a network of the city sees (see `context`), cell by cell: its newest frames and those of
the other channel, what its neighbours and the city differ by, and what is told of the step that is
forecast. One set of trees a lead forecasts how the cell differs from a share of its newest frame.
Histogram-based trees after LightGBM (Ke et al., NeurIPS 2017), of scikit-learn, an extra of flowcast.
"""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from data import windows
from data.errors import FlowcastError
from forecasting.context import PLAIN, Context, ContextConfig
from forecasting.forecaster import label_forecast
from forecasting.tree_rows import Table, TreeLesson, TreesConfig, cells, parts

MISSING = (
    "the trees need scikit-learn; install it: pip install 'flowcast[trees]', or name the networks to "
    "compare without them: --networks swinlstm-b,convlstm"
)


@dataclass(frozen=True)
class TreesForecaster:
    """Grown trees, with what they are shown.

    Attributes:
        models: of each lead, from 1.
        shares: of the newest frame that each lead begins with.
        context: of the city.
        history: newest frames that they see.
        weather: as `forecasting.neural.NeuralForecaster` has it.
        name: for tables.
    """

    models: tuple[Any, ...]
    shares: tuple[float, ...]
    context: Context
    history: int
    weather: xr.DataArray | None = None
    name: str = "trees"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slots, oldest first."""
        return tuple(range(self.history - 1, -1, -1))

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of days and weeks before, which may be missing."""
        return self.context.memory(self.lags(horizon), tuple(range(horizon + 1)))

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps, in vehicles; as `Forecaster` says.

        Raises:
            FlowcastError: no trees were grown for so many steps.
        """
        if horizon > len(self.models):
            raise FlowcastError(
                f"the trees were grown for {len(self.models)} steps ahead, not for {horizon}"
            )
        slots = self.lags(horizon), tuple(range(horizon + 1))
        seen = self.context.seen(past, *slots, horizon, self.weather)
        values = seen.base.copy()
        for part in parts(len(values)):
            for lead in range(1, horizon + 1):
                rows = cells(seen, part, lead, self.context.scale)
                made = self.models[lead - 1].predict(rows.features)
                made += self.shares[lead - 1] * rows.newest
                values[part, lead - 1] += made.reshape(values[part, lead - 1].shape)
        return label_forecast(values, past)


class Grown(NamedTuple):
    """Trees of a city.

    Attributes:
        forecaster: knows the training and the validation span.
        selected: knows the training span alone.
        rounds: trees of all leads of the former.
    """

    forecaster: TreesForecaster
    selected: TreesForecaster
    rounds: int


def version() -> str:
    """Returns the version of scikit-learn.

    Raises:
        FlowcastError: it is not installed.
    """
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError as error:
        raise FlowcastError(MISSING) from error


def grow(
    train: xr.DataArray,
    validation: xr.DataArray,
    horizon: int,
    config: TreesConfig,
    seed: int,
    weather: xr.DataArray | None = None,
) -> Grown:
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
    usual = ContextConfig.usual(len(windows.whole(train, config.lags, horizon)))
    shown = usual if config.context else PLAIN
    first = TreeLesson.of(train, shown, config, seed, weather)
    leads = range(1, horizon + 1)
    judges = first.judges(both, horizon)
    chosen = [_grown(first.rows(lead), judges[lead - 1], config, seed) for lead in leads]
    last = TreeLesson.of(both, shown, config, seed, weather)
    final = [_grown(last.rows(lead), chosen[lead - 1].rounds, config, seed) for lead in leads]
    rounds = sum(one.rounds for one in final)
    return Grown(_forecaster(final, last), _forecaster(chosen, first), rounds)


class _Model(NamedTuple):
    """Trees of a lead, the share of the newest frame that they begin with, and how many they are."""

    model: Any
    share: float
    rounds: int


def _forecaster(models: Sequence[_Model], lesson: TreeLesson) -> TreesForecaster:
    """Returns the trees of all leads as a forecaster."""
    trees, shares, _ = zip(*models, strict=True)
    return TreesForecaster(trees, shares, lesson.context, lesson.config.history, lesson.weather)


def _grown(table: Table, judge: Table | int, config: TreesConfig, seed: int) -> _Model:
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
        return _Model(grower.fit(table.features, target), share, judge)
    aside = judge.target - share * judge.newest
    grower.fit(table.features, target, X_val=judge.features, y_val=aside)
    return _Model(grower, share, int(np.argmax(grower.validation_score_)))
