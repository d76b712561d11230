"""Prediction intervals: between which flows half, four fifths and 95 % of what comes will lie.

A forecaster's own errors on days that it was not trained on tell how far off it is (split conformal
prediction, Lei et al.: Distribution-Free Predictive Inference for Regression, JASA 2018), by lead and
by the level of the forecast flow. Errors are measured in the spread that counting alone would give and
a tenth of the flow; those of both channels and of all cells are taken together.

A band holds, of the errors on either side of the forecast, the same share next to it: it always
contains the forecast, and wider bands contain narrower ones. Vehicles come in whole numbers: where
cutting off the lower tail would mean cutting through the zeros, the band begins at 0 and the whole tail
is cut off above. Cells that hardly ever see a vehicle are 0 more often than a band asks for; their
bands hold more than they promise, and nothing can be done about it.

Days differ from one another, so that a calibration of a week is off by some points in the next month.
As scores arrive, old ones are forgotten (weighted quantiles, Barber et al.: Conformal Prediction beyond
Exchangeability, Annals of Statistics 2023), and each level's bands are stretched after days on which
they held too little, and drawn in after days on which they held too much (after Gibbs, Candès: Adaptive
Conformal Inference under Distribution Shift, NeurIPS 2021; here the width is moved, not the level).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr

from data.clock import local
from data.intervals import COVERAGES, EDGES
from forecasting.backtest import backtest
from forecasting.forecaster import Forecaster
from forecasting.intervals.residuals import (
    BEGINS,
    BINS,
    LEVELS,
    bins,
    interval,
    levels,
    pooled,
    spread,
)

HALF_LIFE = 14.0
"""Days after which a score counts half."""
RATE = 1.0
"""By how much of the share that bands lacked on a day the logarithm of their stretch grows."""
FEW = 50
"""Scores of a day that move the stretch of a level half as far as very many would."""
MOST = 1.0
"""Logarithm of the strongest stretch."""
SINGLE = 1.0
"""Flow from which on bands are drawn in too; below, they may hold too much for want of half vehicles."""
DAY = 86_400


@dataclass(frozen=True)
class PredictionIntervals:
    """The errors of a forecaster, from which bands around its next forecasts follow.

    Attributes:
        counts: how many scores had which error, older ones counted less; float32, dims
            `(lead, level, bin)`.
        stretch: logarithm of the factor on the reach of each band; float32, dims
            `(coverage, lead, level)`.
        newest: `init_time` of the newest score, seconds since 1970 UTC.
        half_life: days after which a score counts half; infinite: none is forgotten.
        rate: of the stretch; 0: there is none.
    """

    counts: np.ndarray
    stretch: np.ndarray
    newest: int = 0
    half_life: float = HALF_LIFE
    rate: float = RATE

    @classmethod
    def empty(
        cls, horizon: int, half_life: float = HALF_LIFE, rate: float = RATE
    ) -> "PredictionIntervals":
        """Returns bands that know of no score, for `horizon` leads."""
        counts = np.zeros((horizon, LEVELS, BINS), dtype=np.float32)
        stretch = np.zeros((len(COVERAGES), horizon, LEVELS), dtype=np.float32)
        return cls(counts, stretch, 0, half_life, rate)

    @property
    def horizon(self) -> int:
        """Leads that were calibrated; later ones take the bands of the last."""
        return len(self.counts)

    def scored(self, forecast: xr.DataArray, observed: xr.DataArray) -> "PredictionIntervals":
        """Returns the bands that know of further scores, in whatever order they come.

        Args:
            forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step.
            observed: the same dims; NaN where it is not known.
        """
        times = _seconds(forecast)
        newest = max(self.newest, int(times.max()))
        old = self._kept(newest - self.newest) if self.newest else 0.0
        leads = min(self.horizon, forecast.sizes["lead_time"])
        flow, came = forecast.values[:, :leads], observed.values[:, :leads]
        error = (came - flow) / spread(flow)
        place = (_lead(flow) * LEVELS + levels(flow)) * BINS + bins(error)
        weight = self._kept(newest - times)[:, None, None, None, None] * ~np.isnan(error)
        size = self.counts[:leads].size
        new = np.bincount(place.ravel(), weight.ravel(), minlength=size)
        counts = self.counts * np.float32(old)
        counts[:leads] += new.reshape(leads, LEVELS, BINS).astype(np.float32)
        return replace(self, counts=counts, newest=newest)

    def updated(self, forecast: xr.DataArray, observed: xr.DataArray) -> "PredictionIntervals":
        """Returns the bands after further scores, each day's in turn; takes what `scored` takes.

        The scores must be later than those before, and their bands must have been the ones of now:
        what these held of each day is what the stretch follows.
        """
        bands = self
        days = local(forecast["init_time"].values, forecast.attrs["timezone"]).normalize()
        for day in days.unique():
            part = {"init_time": np.flatnonzero(days == day)}
            seen, came = forecast.isel(part), observed.isel(part)
            bands = replace(bands, stretch=bands._stretched(seen, came)).scored(seen, came)
        return bands

    def around(self, forecast: xr.DataArray) -> xr.DataArray:
        """Returns the bands around forecasts.

        Args:
            forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step, not negative.

        Returns:
            float32 vehicles per step, never negative, dims `(coverage, edge, init_time, lead_time,
            channel, y, x)` with the coordinates `COVERAGES` and `EDGES`.
        """
        flow = forecast.values
        lead = np.minimum(_lead(flow), self.horizon - 1)
        reach = self._reach[:, :, lead, levels(flow)]
        values = np.maximum(flow + spread(flow) * reach, 0).astype(np.float32)
        coordinates = {"coverage": list(COVERAGES), "edge": list(EDGES)}
        return xr.DataArray(
            values,
            dims=("coverage", "edge", *forecast.dims),
            coords={**coordinates, **forecast.coords},
            name="band",
            attrs=forecast.attrs,
        )

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays, for a file of weights."""
        settings = np.array([self.newest, self.half_life, self.rate])
        return {"counts": self.counts, "stretch": self.stretch, "settings": settings}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "PredictionIntervals":
        """Returns the bands that `to_tensors` gave.

        Raises:
            ValueError: they have other levels or bins than this version of flowcast.
        """
        counts, stretch = tensors["counts"], tensors["stretch"]
        expected = (len(COVERAGES), len(counts), LEVELS)
        if counts.shape[1:] != (LEVELS, BINS) or stretch.shape != expected:
            raise ValueError(f"bands of {counts.shape} and {stretch.shape}")
        newest, half_life, rate = tensors["settings"].tolist()
        return cls(counts, stretch, int(newest), half_life, rate)

    @cached_property
    def _reach(self) -> np.ndarray:
        """How far bands reach, in spreads: dims `(coverage, edge, lead, level)`."""
        counts = pooled(self.counts.astype(np.float64))
        plain = np.stack([interval(counts, coverage) for coverage in COVERAGES])
        stretched = plain * np.exp(self.stretch)[:, None]
        wider = [np.minimum.accumulate(stretched[:, 0]), np.maximum.accumulate(stretched[:, 1])]
        return np.stack(wider, axis=1).astype(np.float32)

    def _stretched(self, forecast: xr.DataArray, observed: xr.DataArray) -> np.ndarray:
        """Returns the stretch after a day, by what the bands held of it."""
        leads = min(self.horizon, forecast.sizes["lead_time"])
        seen, came = forecast.isel(lead_time=slice(leads)), observed.values[:, :leads]
        days = np.clip((_seconds(forecast).max() - self.newest) / DAY, 0, 1)
        known = ~np.isnan(came)
        place = (_lead(came) * LEVELS + levels(seen.values))[known]
        lower, upper = np.moveaxis(self.around(seen).values, 1, 0)
        held = ((came >= lower) & (came <= upper))[:, known]
        size = leads * LEVELS
        number = np.bincount(place, minlength=size)
        stretch = self.stretch.copy()
        for row, share, inside in zip(stretch, COVERAGES, held, strict=True):
            lacking = share * number - np.bincount(place, inside, minlength=size)
            change = self.rate * days * lacking / (number + FEW)
            row[:leads] += change.reshape(leads, LEVELS)
        return np.asarray(np.clip(stretch, np.where(BEGINS < SINGLE, 0, -MOST), MOST))

    def _kept(self, seconds: np.ndarray | int) -> np.ndarray:
        """Returns what scores of this age still count."""
        return np.asarray(0.5 ** (np.asarray(seconds) / DAY / self.half_life))


def calibrated(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> PredictionIntervals:
    """Returns the bands of a forecaster after its errors on days that it was not trained on.

    Args:
        forecaster: any.
        flow: with the slots that it sees and that it is compared with, dims `(time, channel, y, x)`.
        init_times: UTC, of whole windows, as `data.windows.whole` finds them.
        horizon: number of steps ahead.
    """
    bands = PredictionIntervals.empty(horizon)
    for forecast, observed in backtest(forecaster, flow, init_times, horizon):
        bands = bands.scored(forecast, observed)
    return bands


def _seconds(forecast: xr.DataArray) -> np.ndarray:
    """Returns the init_times in seconds since 1970 UTC."""
    times = forecast["init_time"].values.astype("datetime64[s]")
    return np.asarray(times.astype(np.int64))


def _lead(flow: np.ndarray) -> np.ndarray:
    """Returns the position of the lead, dims `(1, lead, 1, 1, 1)`."""
    return np.arange(flow.shape[1])[None, :, None, None, None]
