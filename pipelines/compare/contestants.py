"""The plan of a contest: who takes part, with which seeds, and on which windows all are judged.

A network takes part as its paper draws it, on frames of the flow alone (`plain`), and with all that
the city's own forecaster is shown (`context`), so that networks and not inputs are compared.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock
from data.errors import FlowcastError
from data.flow import Split
from data.store.store import Store
from forecasting.baselines import BASELINES
from forecasting.covariates.config import PARTS, PLAIN
from forecasting.networks import DEFAULT, NETWORKS, peers
from forecasting.registry.versions import flow_hash
from pipelines.compare.contest_makers import Baseline, Maker, Network, Trees

MAIN = DEFAULT
PEERS = peers()
ABLATION = "ablation"
CONTEXTS = ("plain", "context")
KEPT = 2**26
"""Bytes that the forecasts of one run may take; of longer spans every n-th window is judged."""


class Archive(NamedTuple):
    """What is known of a city.

    Attributes:
        city: whose it is.
        flow: dims `(time, channel, y, x)`.
        weather: dims `(time, variable)`; None where there is none.
    """

    city: City
    flow: xr.DataArray
    weather: xr.DataArray | None = None

    @classmethod
    def of(cls, store: Store, city: City) -> "Archive":
        """Returns all that is stored of a city."""
        weather = store.weather.read(city)
        return cls(city, store.flow.read(city), weather if weather.size else None)


@dataclass(frozen=True)
class Plan:
    """What is the same for all who take part.

    Attributes:
        horizon: steps ahead, in training too.
        minutes: of processor time that one training may take, on one core.
    """

    horizon: int = 4
    minutes: float = 15.0

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ValueError(f"minutes {self.minutes:g} are not more than 0")


@dataclass(frozen=True)
class Contestant:
    """One way of making forecasts.

    Attributes:
        name: for tables; of one contest's no other has it.
        family: by which it is picked: a network, `trees`, `baselines`.
        context: by which it is picked: `plain`, `context`, "" where there is no choice.
        maker: fits it.
    """

    name: str
    family: str
    context: str
    maker: Maker


@dataclass(frozen=True)
class Run:
    """A contestant with one seed.

    Attributes:
        contestant: that is fitted.
        seed: of all chance in it.
    """

    contestant: Contestant
    seed: int

    @property
    def label(self) -> str:
        """Name for people."""
        seed = f", seed {self.seed}" if self.contestant.maker.chance else ""
        return self.contestant.name + seed

    def file(self, plan: Plan) -> str:
        """Returns the name of its file, another one for other settings."""
        name = "".join(sign if sign.isalnum() or sign == "-" else "_" for sign in self.label)
        return f"{name}-{digest([self.contestant.maker.facts(plan), self.seed])[:12]}.npz"


LONG, PATIENT = 40, 5
"""Epochs, and those without a better one, of networks that must learn from flow alone what is usual."""


def _networks(names: Iterable[str]) -> list[Contestant]:
    return [
        Contestant(f"{name}, {context}", name, context, maker)
        for name in names
        for context, maker in (
            ("plain", Network(name, PLAIN, (("patience", PATIENT),), epochs=LONG)),
            ("context", Network(name)),
        )
    ]


OWN = Contestant(
    f"{MAIN} and trees, context", f"{MAIN}+trees", "context", Network(MAIN, trees=True)
)
"""What `forecast train` makes."""
CONTESTANTS: tuple[Contestant, ...] = (
    *(Contestant(name, "baselines", "", Baseline(name)) for name in BASELINES),
    Contestant("trees, plain", "trees", "plain", Trees(context=False)),
    Contestant("trees, context", "trees", "context", Trees(context=True)),
    *_networks((*PEERS, *(n for n in NETWORKS if n not in (*PEERS, MAIN)), MAIN)),
    OWN,
)
"""Who may take part in the table."""

FULL = Contestant(f"{MAIN}, context", MAIN, "context", Network(MAIN))
ABLATIONS: tuple[Contestant, ...] = (
    *(
        Contestant(f"{part} the other way", ABLATION, "", Network(MAIN, swapped=(part,)))
        for part in PARTS
    ),
    Contestant("without final fit", ABLATION, "", Network(MAIN, final=False)),
    Contestant("all leads at once", ABLATION, "", Network("swinlstm-direct")),
    Contestant("squared loss", ABLATION, "", Network(MAIN, training=(("loss", "squared"),))),
)
"""The city's own network with one thing changed each; a further row is a further line.

Where windows are many the city's own has no final fit either: that row tells nothing there.
"""
ALL = ("baselines", *PEERS, "trees", MAIN, OWN.family)
"""Families that `all` names."""


def chosen(networks: Sequence[str], seeds: int, contexts: Sequence[str] = CONTEXTS) -> list[Run]:
    """Returns the runs that are asked for: of the baselines in any case, for they cost nothing.

    Args:
        networks: families, `all` or `ablation`.
        seeds: runs of each in which there is chance, with the seeds 0, 1 ...
        contexts: `plain` and `context`, one or both.

    Raises:
        FlowcastError: there is no such family or context.
    """
    known = list(dict.fromkeys(one.family for one in CONTESTANTS))
    for name in networks:
        if name not in (*known, "all", ABLATION):
            raise FlowcastError(
                f"there is no network {name!r}; there is {', '.join(known)}, all and {ABLATION}"
            )
    for name in contexts:
        if name not in CONTEXTS:
            raise FlowcastError(f"there is no context {name!r}; there is plain and context")
    families = {"baselines", *networks, *(ALL if "all" in networks else ())}
    picked = [one for one in CONTESTANTS if one.family in families]
    picked = [one for one in picked if one.context in ("", *contexts)]
    if networks and not contexts:
        raise FlowcastError("name a context: plain, context, or both with a comma between")
    if ABLATION in networks:
        picked += [one for one in (FULL, *ABLATIONS) if one not in picked]
    return [
        Run(one, seed) for seed in range(seeds) for one in picked if one.maker.chance or seed == 0
    ]


def judged(flow: xr.DataArray, first: np.datetime64, last: np.datetime64, plan: Plan) -> np.ndarray:
    """Returns the init_times of the windows whose forecasts lie in a span.

    Where the forecasts of all of them would be too many to keep it is every n-th, of an n that lets
    all times of day come in turn.

    Args:
        flow: dims `(time, channel, y, x)`.
        first: UTC; no slot before it is forecast.
        last: UTC; none after it is.
        plan: with the horizon.
    """
    init_times = windows.whole(flow, (0,), plan.horizon)
    clock = Clock.of(flow)
    begin, end = (clock.time(init_times, np.asarray(lead)) for lead in (1, plan.horizon))
    inside = init_times[(begin >= first) & (end <= last)]
    bytes_each = 2 * plan.horizon * int(np.prod(flow.shape[1:]))
    slots_per_day = 86_400 // int(flow.attrs["step"])
    stride = max(1, -(-len(inside) * bytes_each // KEPT))
    while np.gcd(stride, slots_per_day) > 1:
        stride += 1
    return np.asarray(inside[::stride])


def spans(parts: Split) -> dict[str, tuple[np.datetime64, np.datetime64]]:
    """Returns the first and the last slot of each part, UTC.

    Raises:
        FlowcastError: a part has no slots.
    """
    times = {name: part["time"].values for name, part in parts._asdict().items()}
    for name, time in times.items():
        if not len(time):
            raise FlowcastError(
                f"no slot of {parts.train.attrs['city']} lies in the {name} span; ingest the missing "
                f"ones, or set test_days and validation_days in the city's TOML"
            )
    return {name: (time[0], time[-1]) for name, time in times.items()}


def key_of(archive: Archive, plan: Plan) -> str:
    """Returns what tells a contest from those on other data, other spans or for other leads."""
    city, flow, weather = archive
    sky = None if weather is None else [flow_hash(weather), weather["variable"].values.tolist()]
    days = [city.test_days, city.validation_days]
    return digest([flow_hash(flow), flow.attrs, sky, days, plan.horizon])[:12]


def digest(facts: object) -> str:
    """Returns the SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
