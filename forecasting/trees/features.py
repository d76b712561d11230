"""Rows of trees: what gradient-boosted trees see of each cell, and the rows that they are grown on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from data import windows
from data.errors import FlowcastError
from forecasting.covariates.config import CovariatesConfig
from forecasting.covariates.covariates import Covariates, NetworkInputs, SlotInputs, fit_covariates
from forecasting.history import History

WINDOWS = 4000
"""Windows that rows are drawn from at most."""
AT_ONCE = 64
"""Windows whose features are worked out at a time, to bound the memory."""


@dataclass(frozen=True)
class TreesConfig:
    """How trees are grown.

    Attributes:
        context: whether they see more than the newest frames of the flow.
        history: newest frames that they see.
        rows: cells of windows that the trees of a lead are grown on, drawn evenly.
        rounds: trees of a lead, the most there may be.
        patience: rounds without a lower validation error after which no more are added.
        rate: part of a tree's forecast that counts.
        leaves: of a tree, the most.
    """

    context: bool = True
    history: int = 4
    rows: int = 500_000
    rounds: int = 400
    patience: int = 20
    rate: float = 0.08
    leaves: int = 31

    @property
    def lags(self) -> tuple[int, ...]:
        """The newest slots, in steps back, oldest first."""
        return tuple(range(self.history - 1, -1, -1))


class Table(NamedTuple):
    """Rows that trees are grown or judged on: features `(n, f)`, newest frames and targets `(n,)`."""

    features: np.ndarray
    newest: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class TreeTask:
    """What trees are grown on: a flow, and what its slots show.

    Attributes:
        flow: that they may know.
        context: that follows from it.
        shown: by its slots.
        config: of the trees.
        seed: of the rows that are drawn.
        weather: None where there is none.
    """

    flow: xr.DataArray
    context: Covariates
    shown: SlotInputs
    config: TreesConfig
    seed: int
    weather: xr.DataArray | None

    @classmethod
    def of(
        cls,
        flow: xr.DataArray,
        parts: CovariatesConfig,
        config: TreesConfig,
        seed: int,
        weather: xr.DataArray | None,
        horizon: int,
    ) -> "TreeTask":
        """Returns the lesson of a flow, all of which the trees may know, and parts of its context."""
        context, shown = fit_covariates(flow, parts, weather, horizon)
        return cls(flow, context, shown, config, seed, weather)

    @property
    def lags(self) -> tuple[int, ...]:
        """The newest slots, oldest first."""
        return self.config.lags

    def rows(self, lead: int) -> Table:
        """Returns the rows that the trees of a lead are grown on."""
        rng = np.random.default_rng((self.seed, lead))
        init_times = _thinned(windows.whole(self.flow, self.lags, lead), rng)
        past = windows.positions(self.flow, init_times, -np.asarray(self.lags))
        told = windows.positions(self.flow, init_times, np.array([0, lead]))
        tables = []
        for part in parts(len(init_times)):
            at = told[part]
            vector = self._with_weather(self.shown.vector[at], init_times[part])
            seen = self.shown.frames[past[part]], self.shown.maps[at], vector
            frames = self.shown.frames[at] * self.context.scale
            columns = features(*seen, self.context.scale)
            tables.append(_drawn(columns, frames, len(init_times), self.config, rng))
        return _joined(tables)

    def judges(self, both: xr.DataArray, horizon: int) -> list[Table]:
        """Returns rows of what follows the flow, as forecasts see it, a table for each lead."""
        targets, scale = tuple(range(horizon + 1)), self.context.scale
        rng = np.random.default_rng(0)
        every = windows.whole(both, self.lags, horizon)
        init_times = _thinned(every[every >= self.flow["time"].values[-1]], rng)
        tables: list[list[Table]] = [[] for _ in range(horizon)]
        for part in parts(len(init_times)):
            history = History.of(both, init_times[part])
            seen = self.context.inputs(history, self.lags, targets, horizon, self.weather)
            came = windows.future(both, init_times[part], horizon).values - seen.base
            newest = seen.frames[:, -1] * scale
            for lead in range(1, horizon + 1):
                steps = [0, lead]
                shown = seen.frames, seen.maps[:, steps], seen.vector[:, steps]
                frames = np.stack([newest, came[:, lead - 1]], axis=1)
                columns = features(*shown, scale)
                tables[lead - 1].append(_drawn(columns, frames, len(init_times), self.config, rng))
        return [_joined(one) for one in tables]

    def _with_weather(self, calendar: np.ndarray, init_times: np.ndarray) -> np.ndarray:
        """Returns what the calendar tells of two steps `(b, 2, v - w)`, and the weather known."""
        told = self.context.known_weather(self.weather, init_times)[:, None]
        return np.concatenate([calendar, told.repeat(2, axis=1)], axis=-1)


def features(
    frames: np.ndarray, maps: np.ndarray, vector: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Returns what the trees see of every cell.

    Args:
        frames: the newest ones, oldest first, `(b, t, c, y, x)`, scaled.
        maps: what is told of the newest step and of the one that is forecast, `(b, 2, m, y, x)`.
        vector: the same as numbers, `(b, 2, v)`.
        scale: `(c, y, x)` vehicles that stand for 1 in a frame.

    Returns:
        float32 `(b, c, y, x, f)`: the frames of the cell's channel and of the other one, in
        vehicles; sums over the eight cells around, of the newest two frames, and over all cells; what
        is told of both steps; and where the cell lies.
    """
    frames = frames * scale
    around = _around(frames[:, -2:])
    columns = [*np.moveaxis(frames, 1, 0), *np.moveaxis(frames[:, :, ::-1], 1, 0)]
    columns += [*np.moveaxis(around, 1, 0), around[:, -1, ::-1]]
    columns.append(frames[:, -1].sum((2, 3), keepdims=True))
    for first in range(0, maps.shape[2], 2):  # a map of each channel
        pair = np.moveaxis(maps[:, :, first : first + 2], 1, 0)
        columns += [*pair, *pair[:, :, ::-1]]
    columns += [one[:, None, None, None] for one in vector[:, 1].T]
    columns += list(np.indices(scale.shape)[:, None])
    whole = (len(frames), *scale.shape)
    columns = [np.broadcast_to(one, whole) for one in columns]
    return np.stack(columns, axis=-1, dtype=np.float32, casting="same_kind")


def cells(seen: NetworkInputs, part: slice, lead: int, scale: np.ndarray) -> Table:
    """Returns the rows of all cells of some windows, without targets."""
    steps = [0, lead]
    columns = features(seen.frames[part], seen.maps[part, steps], seen.vector[part, steps], scale)
    newest = (seen.frames[part, -1] * scale).ravel()
    return Table(columns.reshape(-1, columns.shape[-1]), newest, np.empty(0))


def parts(count: int) -> Iterator[slice]:
    """Yields which of so many windows are worked on at a time."""
    for start in range(0, count, AT_ONCE):
        yield slice(start, start + AT_ONCE)


def _around(frames: np.ndarray) -> np.ndarray:
    """Returns the sums over the eight cells around each, those beyond the edge being 0."""
    wide = np.pad(frames, [(0, 0)] * 3 + [(1, 1)] * 2)
    rows, columns = frames.shape[3:]
    nine = [wide[..., y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.asarray(sum(nine) - frames)


def _thinned(init_times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns all windows, or as many as there may be, drawn evenly."""
    return rng.permutation(init_times)[:WINDOWS]


def _drawn(
    columns: np.ndarray,
    frames: np.ndarray,
    count: int,
    config: TreesConfig,
    rng: np.random.Generator,
) -> Table:
    """Returns the share of the rows of some of `count` windows that is drawn.

    Args:
        columns: `(b, c, y, x, f)`.
        frames: `(b, 2, c, y, x)` vehicles, the newest and the target.
        count: windows in all.
        config: with the rows that are asked for.
        rng: that draws.
    """
    flat = columns.reshape(-1, columns.shape[-1])
    wanted = -(-config.rows * len(columns) // count)
    chosen = rng.permutation(len(flat))[:wanted]
    return Table(flat[chosen], frames[:, 0].ravel()[chosen], frames[:, 1].ravel()[chosen])


def _joined(tables: Sequence[Table]) -> Table:
    if not tables:
        raise FlowcastError(
            "there is no whole window to grow trees on; ingest more flow (see: forecast check)"
        )
    return Table(*(np.concatenate(parts) for parts in zip(*tables, strict=True)))
