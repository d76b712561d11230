"""Mixtures: what trees add to each peer, so that the city's own forecaster is compared like with like.

The city's own forecaster gives trees a share beside its network. So is done here with every peer that took
part with the same context as trees did: of the forecasts that both left, the share is that of least
squares on the validation span, as `pipelines.growing.share_of` finds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from data import windows
from pipelines.contest_makers import Network, Trees
from pipelines.contest_plan import MAIN, Contestant, Run
from pipelines.contest_run import Kept, errors_by_window, rmse_by_lead


@dataclass(frozen=True)
class Mixed:
    """What a network's run and one of trees come to together; it reads as `Kept` does.

    Attributes:
        network: what the run of the network left.
        trees: what that of the trees left.
        share: of the forecast that is the trees', 0 to 1.
        sums: of the errors by window, as of `Kept`.
        facts: as of `Kept`; `seconds` are those of both.
    """

    network: Kept
    trees: Kept
    share: float
    sums: xr.Dataset
    facts: Mapping[str, Any]

    def forecast(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the forecasts of the test span, as `Kept.forecast`."""
        return _mean(self.network.forecast(flow), self.trees.forecast(flow), self.share)

    def selected(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the forecasts of the validation span, as `Kept.selected`."""
        return _mean(self.network.selected(flow), self.trees.selected(flow), self.share)


def mixtures(
    runs: Mapping[Run, Kept], flow: xr.DataArray
) -> Iterator[tuple[Contestant, dict[Run, Mixed]]]:
    """Yields each peer with trees beside it, and what that came to by seed.

    Args:
        runs: of a contest, with what they left.
        flow: of the city.
    """
    trees = {run.seed: kept for run, kept in runs.items() if _is_told(run, Trees)}
    peers: dict[Contestant, dict[Run, Mixed]] = {}
    for run, kept in runs.items():
        one = run.contestant
        if run.seed not in trees or one.family == MAIN or not _is_told(run, Network):
            continue
        contestant = Contestant(
            f"{one.family} and trees, context", one.family, "context", one.maker
        )
        made = Run(contestant, run.seed)
        peers.setdefault(contestant, {})[made] = _mixed(kept, trees[run.seed], flow)
    yield from peers.items()


def _is_told(run: Run, kind: type[Network] | type[Trees]) -> bool:
    """Returns whether a run is one of that kind with context, and nothing else beside it."""
    maker = run.contestant.maker
    alone = not (isinstance(maker, Network) and maker.trees)
    return isinstance(maker, kind) and run.contestant.context == "context" and alone


def _mixed(network: Kept, trees: Kept, flow: xr.DataArray) -> Mixed:
    """Returns what both come to with the share of least squares on the validation span."""
    ours, theirs = network.selected(flow), trees.selected(flow)
    observed = _observed(ours, flow)
    apart = (theirs - ours).values.astype(np.float64)
    wanted = observed - ours.values
    there = np.isfinite(apart) & np.isfinite(wanted)
    below = float(np.square(apart[there]).sum())
    share = float((wanted * apart)[there].sum()) / below if below else 0.0
    share = min(max(share, 0.0), 1.0)
    made = _mean(network.forecast(flow), trees.forecast(flow), share)
    validation = rmse_by_lead(errors_by_window(_mean(ours, theirs, share), flow))
    seconds = network.facts["seconds"] + trees.facts["seconds"]
    facts = {**network.facts, "seconds": seconds, "validation": validation, "share": share}
    return Mixed(network, trees, share, errors_by_window(made, flow), facts)


def _observed(forecast: xr.DataArray, flow: xr.DataArray) -> np.ndarray:
    """Returns what came, `(init_time, lead_time, channel, y, x)`; NaN where nothing did."""
    rows = windows.rows(flow, forecast["valid_time"].values)
    came = flow.values[np.maximum(rows, 0)].astype(np.float64)
    came[rows < 0] = np.nan
    return np.asarray(came)


def _mean(ours: xr.DataArray, theirs: xr.DataArray, share: float) -> xr.DataArray:
    """Returns the mean of two forecasts of the same windows, the second having that share."""
    return ours + np.float32(share) * (theirs - ours)
