"""Mixtures: what trees add to each peer, so that the city's own forecaster is compared like with like.

The city's own forecaster gives trees a share beside its network, and where windows are many a network that
sees frames alone. So is done here with every peer that took part with the same context as trees did: of
the forecasts that all left, the shares are those of least squares on the validation span, one after the
other, as `forecasting.city.fit.stacking_weight` finds them. Of each kind a peer has one network, the city's
own forecaster as many as are usual, in the same time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from data import windows
from pipelines.compare.contest_makers import Network, Trees
from pipelines.compare.contestants import MAIN, Contestant, Run
from pipelines.compare.run import Kept, errors_by_window, rmse_by_lead


@dataclass(frozen=True)
class Mixed:
    """What a network's run and others come to together; it reads as `Kept` does.

    Attributes:
        network: what the run of the network with context left.
        others: what further runs left, and the share of each in what came to be before it, 0 to 1.
        sums: of the errors by window, as of `Kept`.
        facts: as of `Kept`; `seconds` are those of all.
    """

    network: Kept
    others: tuple[tuple[Kept, float], ...]
    sums: xr.Dataset
    facts: Mapping[str, Any]

    def forecast(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the forecasts of the test span, as `Kept.forecast`."""
        made = self.network.forecast(flow)
        for other, share in self.others:
            made = _mean(made, other.forecast(flow), share)
        return made

    def selected(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the forecasts of the validation span, as `Kept.selected`."""
        made = self.network.selected(flow)
        for other, share in self.others:
            made = _mean(made, other.selected(flow), share)
        return made


def mixtures(
    runs: Mapping[Run, Kept], flow: xr.DataArray
) -> Iterator[tuple[Contestant, dict[Run, Mixed]]]:
    """Yields each peer with what the city's own forecaster has beside it, and what that came to by seed.

    Args:
        runs: of a contest, with what they left.
        flow: of the city.
    """
    trees = {run.seed: kept for run, kept in runs.items() if _is_told(run, Trees)}
    alone = {
        (run.contestant.family, run.seed): kept
        for run, kept in runs.items()
        if run.contestant.context == "plain" and isinstance(run.contestant.maker, Network)
    }
    both = any(kept.facts.get("plain") for kept in runs.values())
    peers: dict[Contestant, dict[Run, Mixed]] = {}
    for run, kept in runs.items():
        one = run.contestant
        if run.seed not in trees or one.family == MAIN or not _is_told(run, Network):
            continue
        others = [trees[run.seed]]
        if both and (one.family, run.seed) in alone:
            others.append(alone[one.family, run.seed])
        kinds = "trees" if len(others) == 1 else "trees, both kinds"
        contestant = Contestant(
            f"{one.family} and {kinds}, context", one.family, "context", one.maker
        )
        made = Run(contestant, run.seed)
        peers.setdefault(contestant, {})[made] = _mixed(kept, others, flow)
    yield from peers.items()


def _is_told(run: Run, kind: type[Network] | type[Trees]) -> bool:
    """Returns whether a run is one of that kind with context, and nothing else beside it."""
    maker = run.contestant.maker
    alone = not (isinstance(maker, Network) and maker.trees)
    return isinstance(maker, kind) and run.contestant.context == "context" and alone


def _mixed(network: Kept, others: Sequence[Kept], flow: xr.DataArray) -> Mixed:
    """Returns what all come to with the shares of least squares on the validation span."""
    selected, made = network.selected(flow), network.forecast(flow)
    parts = []
    for other in others:
        theirs = other.selected(flow)
        share = _share(selected, theirs, flow)
        selected = _mean(selected, theirs, share)
        made = _mean(made, other.forecast(flow), share)
        parts.append((other, share))
    facts = {
        **network.facts,
        "seconds": network.facts["seconds"] + sum(one.facts["seconds"] for one in others),
        "validation": rmse_by_lead(errors_by_window(selected, flow)),
    }
    return Mixed(network, tuple(parts), errors_by_window(made, flow), facts)


def _share(ours: xr.DataArray, theirs: xr.DataArray, flow: xr.DataArray) -> float:
    """Returns the share of the second of two forecasts that is that of least squares, 0 to 1."""
    apart = (theirs - ours).values.astype(np.float64)
    wanted = _observed(ours, flow) - ours.values
    there = np.isfinite(apart) & np.isfinite(wanted)
    below = float(np.square(apart[there]).sum())
    share = float((wanted * apart)[there].sum()) / below if below else 0.0
    return min(max(share, 0.0), 1.0)


def _observed(forecast: xr.DataArray, flow: xr.DataArray) -> np.ndarray:
    """Returns what came, `(init_time, lead_time, channel, y, x)`; NaN where nothing did."""
    rows = windows.rows(flow, forecast["valid_time"].values)
    came = flow.values[np.maximum(rows, 0)].astype(np.float64)
    came[rows < 0] = np.nan
    return np.asarray(came)


def _mean(ours: xr.DataArray, theirs: xr.DataArray, share: float) -> xr.DataArray:
    """Returns the mean of two forecasts of the same windows, the second having that share."""
    return ours + np.float32(share) * (theirs - ours)
