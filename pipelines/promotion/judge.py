"""Judging: a version, the champion and the baselines on days that none of them was trained on."""

from dataclasses import replace

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, stamp, wall
from data.errors import FlowcastError
from data.paths import models_root
from data.store.promotions import PROMOTED, REFUSED
from data.store.store import Store
from forecasting.backtest import backtest
from forecasting.baselines import fit_baselines
from forecasting.forecaster import Forecaster
from forecasting.intervals.coverage import OnlineIntervals, shares
from forecasting.registry.integrity import verify
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import load_intervals
from pipelines.forecast.champion import load_champion, problems
from pipelines.forecast.slots import frame_bytes
from pipelines.promotion import gates
from pipelines.promotion.gates import Gate

MOST_BYTES = 2**28
"""What the forecasts of one of those that are judged may take; of longer spans every n-th is judged."""
CHANGED = "the champion was changed while the candidate was judged against the one before"


def run_gates(
    store: Store,
    city: City,
    version: str,
    *,
    until: np.datetime64,
    horizon: int,
) -> list[Gate]:
    """Returns what became of each gate for a version that is to be the champion.

    Args:
        store: with the flow and the champion.
        city: whose version it is.
        version: the candidate.
        until: UTC; the newest slot that counts.
        horizon: steps ahead.

    Raises:
        FlowcastError: there is no such version, or too little flow that it does not know.
    """
    wrong = problems(store, city, version)
    if wrong:
        return [gates.intact(wrong)]
    champion = store.promotions.champion(city)
    former = _champion(store, city, None if champion in (None, version) else champion)
    rival = None if former is None else champion
    flow = store.flow.read(city, last=until)
    first = max(_known(city, one) for one in (version, rival) if one is not None)
    baselines = fit_baselines(flow[flow["time"].values <= first])
    own = load_champion(store, city, version)
    everyone = [own, *baselines.values(), *([former] if former else [])]
    init_times = _windows(flow, first, everyone, city, horizon)
    days = len(np.unique(wall(init_times, city.timezone).astype("datetime64[D]")))
    found = [gates.intact([]), gates.enough(len(init_times), days, former is not None)]
    if not found[-1].passed:
        return found
    init_times = _thinned(init_times, city, horizon)
    observed = _observed(flow, init_times, horizon)
    forecast = _run(own, flow, init_times, horizon)
    found.append(gates.finite(forecast.values))
    if not found[-1].passed:
        return found
    mine = gates.errors(forecast.values, observed)
    others = {
        name: gates.errors(_run(one, flow, init_times, horizon).values, observed)
        for name, one in baselines.items()
    }
    found += gates.beats(mine, others)
    if former is not None:
        theirs = _run(former, flow, init_times, horizon).values
        if np.isfinite(theirs).all():  # one that gives no numbers need not be beaten
            found += gates.holds(mine, gates.errors(theirs, observed))
    return found + gates.covers(_held(city, version, forecast, observed))


def record(
    store: Store,
    city: City,
    version: str,
    found: list[Gate],
    *,
    manifest: str,
    champion: str | None,
    now: np.datetime64,
    failure: str = "",
) -> tuple[bool, str, list[Gate]]:
    """Stores the decision on a candidate and promotes it if every gate passes, in one transaction.

    Args:
        store: with champion and decisions.
        city: whose version it is.
        version: the candidate.
        found: its gates.
        manifest: SHA-256 of its manifest as it was judged.
        champion: that it was judged against: where another is champion by now it is refused.
        now: UTC.
        failure: why it could not be judged, "" where it was.

    Returns:
        whether it was promoted, why or why not, and all gates.
    """
    promoted, reason = (False, failure) if failure else gates.decide(found)
    # It took minutes to judge it: what serves must still be what was judged.
    if promoted and (wrong := verify(models_root(), city.name, version, manifest)):
        found = [*found, replace(gates.intact(wrong), name="files, once judged")]
        promoted, reason = gates.decide(found)
    outcome, facts = PROMOTED if promoted else REFUSED, {gate.name: gate.facts for gate in found}
    stands = store.promotions.decide(
        city, version, outcome, reason, now, facts, manifest, instead_of=(champion, CHANGED)
    )
    return (promoted, reason, found) if stands else (False, CHANGED, found)


def _known(city: City, version: str) -> np.datetime64:
    """Returns the newest slot that a version was trained on, or chosen by; UTC."""
    manifest = read_manifest(models_root(), city.name, version)
    return np.datetime64(manifest.trained[1].removesuffix("Z"), "s")


def _champion(store: Store, city: City, version: str | None) -> Forecaster | None:
    """Returns the champion, None where there is none that serves: then none must be beaten."""
    if version is None:
        return None
    try:
        return load_champion(store, city, version)
    except FlowcastError:
        return None


def _windows(
    flow: xr.DataArray,
    first: np.datetime64,
    everyone: list[Forecaster],
    city: City,
    horizon: int,
) -> np.ndarray:
    """Returns the init_times from `first` on whose forecasts all can make."""
    lags = sorted({0}.union(*(one.lags(horizon) for one in everyone)))
    init_times = windows.whole(flow, lags, horizon)
    init_times = init_times[init_times >= first]
    if not len(init_times):
        raise FlowcastError(
            f"{city.name} has 0 whole windows after {stamp(first, city.timezone)}, until which the "
            f"versions know its flow; wait for more flow to judge by"
        )
    return init_times


def _thinned(init_times: np.ndarray, city: City, horizon: int) -> np.ndarray:
    """Returns every n-th init_time where forecasts of all would take too much memory."""
    most = max(gates.MIN_WINDOWS, MOST_BYTES // (horizon * frame_bytes(city)))
    stride = -(-len(init_times) // most)
    while np.gcd(stride, city.slots_per_day) > 1:
        stride += 1
    return np.asarray(init_times[::stride])


def _observed(flow: xr.DataArray, init_times: np.ndarray, horizon: int) -> xr.DataArray:
    """Returns what came, with the slot of the day of each lead."""
    clock = Clock.of(flow)
    valid = clock.time(init_times[:, None], np.arange(1, horizon + 1))
    shown = wall(valid, clock.timezone)
    slot = ((shown - shown.astype("datetime64[D]")) / clock.step).astype(np.int64)
    observed = windows.future(flow, init_times, horizon)
    return observed.assign_coords(slot=(("init_time", "lead_time"), slot))


def _run(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> xr.DataArray:
    """Returns the forecasts of all windows."""
    parts = [made for made, _ in backtest(forecaster, flow, init_times, horizon)]
    return xr.concat(parts, "init_time") if len(parts) > 1 else parts[0]


def _held(
    city: City, version: str, forecast: xr.DataArray, observed: xr.DataArray
) -> dict[float, float]:
    """Returns what bands held, by what they promise, as they would have learnt day by day."""
    bands = load_intervals(models_root(), city, version)
    if bands is None:
        return {}
    leads = min(bands.horizon, forecast.sizes["lead_time"])
    parts = (one.isel(lead_time=slice(leads)) for one in (forecast, observed.drop_vars("slot")))
    total = OnlineIntervals(bands).after(*parts).total
    if total is None:
        return {}
    held = shares(total)["held"]
    return {float(level): float(held.sel(coverage=level)) for level in held["coverage"].values}
