"""Covariates: what a network of a city sees beside its frames, known when the forecast is made.

Of each step that it forecasts it sees the expected flow, how the same slot of last week and of
yesterday differed from what was expected, the hour, the kind of the day and the newest weather; its
frames are differences from the expected flow. Each part can be switched off.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from data import windows
from data.clock import Clock, utc, wall
from data.holidays import HOLIDAY, WORKED
from data.weather import known as newest_known
from forecasting.covariates.climatology import calendar
from forecasting.covariates.config import CovariatesConfig
from forecasting.covariates.day_types import BRIDGE, day_types, days
from forecasting.covariates.expected import DAY, WEEK, Expected, ordinary
from forecasting.history import History

HARMONICS = (1, 2)
"""Waves a day by which the hour is told."""
FLOOR = 0.01
"""Of the mean square of all cells' frames, what is added to that of each before its root."""
MOST_GROWTH = 5.0
"""By what the expected flow grows or shrinks from one step to the next at most."""
STRANGEST = 4.0
"""Standard deviations beyond which weather is as strange as it gets."""
ROWS = 512
"""Frames that are worked on at a time, to bound the memory."""


class NetworkInputs(NamedTuple):
    """What a stack of windows shows a network.

    Attributes:
        frames: float32 `(b, t, c, y, x)`, scaled.
        maps: float32 `(b, s, m, y, x)`, of each step that is told of.
        vector: float32 `(b, s, v)`, of each such step.
        base: float32 `(b, h, c, y, x)` vehicles, what the network's outputs are differences from.
    """

    frames: np.ndarray
    maps: np.ndarray
    vector: np.ndarray
    base: np.ndarray


@dataclass(frozen=True)
class Covariates:
    """What is known of a city, as its networks are shown it.

    Attributes:
        config: what of it is shown.
        expected: flow.
        scale: `(c, y, x)` vehicles that stand for 1 in a frame.
        typical: vehicles that stand for 1 in the maps of expected flow.
        weather: names, means and standard deviations of the variables; none where there are none.
        horizon: steps ahead that networks are trained for. Of all of them the same day and week before
            are shown: nearer ones would show a training what is still to come at its longest lead.
    """

    config: CovariatesConfig
    expected: Expected
    scale: np.ndarray
    typical: float
    weather: tuple[tuple[str, float, float], ...] = ()
    horizon: int = 1

    @property
    def features(self) -> int:
        """Length v of the vector of a step."""
        hour = 2 * len(HARMONICS) * self.config.hour
        return hour + 4 * self.config.holiday + len(self.weather)

    def known_weather(self, weather: xr.DataArray | None, init_times: np.ndarray) -> np.ndarray:
        """Returns the weather that was known at each of `init_times`, float32 `(n, w)`.

        Args:
            weather: dims `(time, variable)`, as `data.weather` has it; None where there is none.
            init_times: UTC.

        Returns:
            in standard deviations from the mean; 0 for what is not known.
        """
        told = np.zeros((len(init_times), len(self.weather)), dtype=np.float32)
        if weather is None or not self.weather:
            return told
        there = set(weather["variable"].values.tolist())
        newest = newest_known(weather, init_times)
        for column, (name, mean, deviation) in zip(told.T, self.weather, strict=True):
            if name in there:
                values = (newest.sel(variable=name).values - mean) / deviation
                column[:] = np.nan_to_num(values).clip(-STRANGEST, STRANGEST)
        return told

    def optional_lags(self, lags: tuple[int, ...], targets: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the slots that are looked for beside the network's own, in steps back.

        Args:
            lags: of the network's frames.
            targets: steps after the forecast's slot that are told of.
        """
        if not self.config.needs_expected:
            return ()
        steps = np.asarray(targets)
        found = self.expected.lags(np.unique([*(-np.asarray(lags)), *steps, *(steps - 1)]))
        if self.config.yesterday:
            before = np.asarray(targets) - self._days(np.asarray(targets)) * self._day
            around = np.arange(-self.expected.shift, self.expected.shift + 1)
            days = (before[:, None] + around).ravel()
            found |= self.expected.lags(days) | {int(-day) for day in days if day <= 0}
        return tuple(sorted(found, reverse=True))

    def inputs(
        self,
        history: History,
        lags: tuple[int, ...],
        targets: tuple[int, ...],
        horizon: int,
        weather: xr.DataArray | None = None,
    ) -> NetworkInputs:
        """Returns what windows show.

        Args:
            history: with the slots of `lags`, and those of `optional_lags` where they are there.
            lags: of the network's frames, oldest first.
            targets: steps after `init_time` that are told of, in the order of time, 1 to
                `horizon` among them.
            horizon: number of steps that are forecast.
            weather: as `known_weather` takes it.
        """
        flow, clock, offsets = history.flow, history.clock, np.asarray(targets)
        frames, times = history.past(lags), history.times(offsets)
        base = np.zeros((len(times), horizon, *frames.shape[2:]), dtype=np.float32)
        maps = np.zeros((*times.shape, self.config.maps, *frames.shape[3:]), dtype=np.float32)
        if self.config.needs_expected:
            coming = self.expected.ahead(history, offsets)
            before = _shown_before(clock, times, self._days(offsets) * DAY)
            weeks = _shown_before(clock, times, self._weeks(offsets) * WEEK)
            maps = self._maps(
                coming,
                self.expected.ahead(history, offsets - 1),
                history.at(ordinary(flow, weeks)),
                history.at(before),
                self.expected.at(history, before, np.asarray(1)),
            )
            if self.config.anomaly:
                newest = history.times(-np.asarray(lags))
                frames = frames - self.expected.at(history, newest, np.asarray(1))
                base = coming[:, targets.index(1) :][:, :horizon]
        calendar = self.vector(times.ravel(), flow).reshape(*times.shape, -1)
        told = self.known_weather(weather, history.init_times)[:, None]
        every = np.broadcast_to(told, (*times.shape, told.shape[-1]))
        vector = np.concatenate([calendar, every], axis=-1)
        return NetworkInputs((frames / self.scale).astype(np.float32), maps, vector, base)

    def vector(self, times: np.ndarray, flow: xr.DataArray) -> np.ndarray:
        """Returns what the calendar tells of steps at UTC `times` `(n,)`, float32 `(n, v - w)`.

        Args:
            times: of the steps.
            flow: for its timezone, step and country.
        """
        columns: list[np.ndarray] = []
        if self.config.hour:
            _, slot = calendar(times, str(flow.attrs["timezone"]), int(flow.attrs["step"]))
            angle = 2 * np.pi * slot * int(flow.attrs["step"]) / 86_400
            columns += [wave(n * angle) for n in HARMONICS for wave in (np.sin, np.cos)]
        if self.config.holiday:
            day = days(flow, times)
            before, today, after = (day_types(flow, day + shift * DAY) for shift in (-1, 0, 1))
            columns += [np.isin(one, (HOLIDAY, BRIDGE)) for one in (before, today, after)]
            columns.append(today == WORKED)
        if not columns:
            return np.zeros((len(times), 0), dtype=np.float32)
        return np.stack(columns, axis=-1).astype(np.float32)

    def _maps(
        self,
        coming: np.ndarray,
        before: np.ndarray,
        last_week: np.ndarray,
        yesterday: np.ndarray,
        expected_yesterday: np.ndarray,
    ) -> np.ndarray:
        """Returns the maps `(..., m, y, x)` for flows `(..., c, y, x)` in vehicles, NaN where missing."""
        chosen: list[np.ndarray] = []
        if self.config.expected:
            # Counting noise grows with the root: on that scale small and large flows are alike.
            chosen.append(np.sqrt(coming / self.typical))
        if self.config.last_week:
            chosen.append(np.nan_to_num((last_week - coming) / self.scale))
        if self.config.yesterday:
            chosen.append(np.nan_to_num((yesterday - expected_yesterday) / self.scale))
        if self.config.growth:
            grown = (coming + self.scale) / (before + self.scale)
            chosen.append(np.nan_to_num(grown.clip(1 / MOST_GROWTH, MOST_GROWTH) - 1))
        if not chosen:
            return np.zeros((*coming.shape[:-3], 0, *coming.shape[-2:]), dtype=np.float32)
        return np.concatenate(chosen, axis=-3).astype(np.float32)

    @property
    def _day(self) -> int:
        """Slots of a day."""
        return int(DAY // np.timedelta64(self.expected.climatology.step, "s"))

    def _days(self, offsets: np.ndarray) -> np.ndarray:
        """Returns how many days before a step the slot lies that is shown beside it."""
        farthest = np.maximum(offsets, self.horizon)
        return np.asarray(np.maximum(1, -(-(farthest + self.expected.shift) // self._day)))

    def _weeks(self, offsets: np.ndarray) -> np.ndarray:
        """Returns how many weeks before a step the slot lies that is shown beside it."""
        return self.expected.first(np.maximum(offsets, self.horizon))


@dataclass(frozen=True)
class SlotInputs:
    """What every slot of a flow shows a network that is trained on it.

    Attributes:
        frames: float32 `(t, c, y, x)`, scaled.
        maps: float16 `(t, m, y, x)`, what is told of the step at that slot.
        vector: float32 `(t, v - w)`, what the calendar tells of the same.
    """

    frames: np.ndarray
    maps: np.ndarray
    vector: np.ndarray


def fit_covariates(
    flow: xr.DataArray,
    config: CovariatesConfig,
    weather: xr.DataArray | None = None,
    horizon: int = 1,
) -> tuple[Covariates, SlotInputs]:
    """Returns the context that follows from a flow, and what its slots show.

    Args:
        flow: dims `(time, channel, y, x)`, all that training may know.
        config: what is shown.
        weather: dims `(time, variable)`; what lies beyond the flow's times is not looked at.
        horizon: steps ahead that is trained for.
    """
    expected = Expected.fit(flow)
    usual = expected.series(flow) if config.needs_expected else None
    frames = flow.values - usual if usual is not None and config.anomaly else flow.values
    typical = float(np.sqrt(np.mean(np.square(flow.values, dtype=np.float64)))) or 1.0
    variables = _variables(flow, weather) if config.weather and weather is not None else ()
    context = Covariates(config, expected, _scale(frames), typical, variables, horizon)
    times, clock = flow["time"].values, Clock.of(flow)
    maps = np.zeros((len(times), config.maps, *flow.shape[2:]), dtype=np.float16)
    if usual is not None and config.maps:
        farthest = np.asarray(horizon)
        ago, back = context._days(farthest) * DAY, context._weeks(farthest) * WEEK
        days = windows.rows(flow, _shown_before(clock, times, ago))
        former = windows.positions(flow, times, np.array([-1]))[:, 0]
        weeks = windows.rows(flow, ordinary(flow, _shown_before(clock, times, back)))
        for part in np.array_split(np.arange(len(times)), -(-len(times) // ROWS)):
            maps[part] = context._maps(
                usual[part],
                _rows(usual, former[part]),
                _rows(flow.values, weeks[part]),
                _rows(flow.values, days[part]),
                _rows(usual, days[part]),
            )
    scaled = (frames / context.scale).astype(np.float32)
    return context, SlotInputs(scaled, maps, context.vector(times, flow))


def _variables(flow: xr.DataArray, weather: xr.DataArray) -> tuple[tuple[str, float, float], ...]:
    """Returns the variables of the weather during a flow, with means and standard deviations."""
    time = weather["time"].values
    first, last = flow["time"].values[[0, -1]]
    part = weather[(time >= first) & (time <= last)]
    return tuple(
        (str(name), float(np.nanmean(values)), float(np.nanstd(values)))
        for name, values in zip(weather["variable"].values, part.values.T, strict=True)
        if (~np.isnan(values)).any() and np.nanstd(values) > 0
    )


def _scale(frames: np.ndarray) -> np.ndarray:
    """Returns the root mean square of every cell `(c, y, x)`, at least a tenth of all cells'."""
    square = sum(np.square(part, dtype=np.float64).sum(axis=0) for part in _parts(frames))
    mean = np.asarray(square) / len(frames)
    return np.sqrt(mean + FLOOR * mean.mean()).astype(np.float32) if mean.any() else mean + 1.0


def _parts(frames: np.ndarray) -> list[np.ndarray]:
    return np.array_split(frames, -(-len(frames) // ROWS))


def _shown_before(clock: Clock, times: np.ndarray, ago: np.ndarray | np.timedelta64) -> np.ndarray:
    """Returns when clocks showed the time of day of `times`, `ago` before them by the calendar."""
    return utc(wall(times, clock.timezone) - ago, clock.timezone)


def _rows(frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
    chosen = frames[np.maximum(rows, 0)]
    chosen[rows < 0] = np.nan
    return np.asarray(chosen)
