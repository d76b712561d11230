"""Contestants: the forecasters that a comparison fits and tests, each with its settings.

A network takes part on raw flow, as its paper draws it, and with the city's covariates, so that networks
are compared and not their inputs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from time import process_time
from typing import Any, NamedTuple

import xarray as xr

from data.errors import check_known
from forecasting.baselines import BASELINES
from forecasting.city.fit import fitted
from forecasting.city.recipe import DEFAULT_TRAINING, ENSEMBLE_SIZE, Recipe
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.config import PARTS, RAW_FLOW
from forecasting.forecaster import Forecaster
from forecasting.networks import DEFAULT, NETWORKS, peers
from forecasting.training.hardware import Computing
from forecasting.trees import forecaster as trees
from forecasting.trees.features import TreesConfig
from pipelines.compare.comparison import Comparison

INPUTS = {"raw-flow": "plain", "covariates": "context"}
"""What networks may be given, and how `table.json` spells it."""
Fitted = tuple[Forecaster, Forecaster, dict[str, float]]
RAW: dict[str, Any] = {
    "context": RAW_FLOW,
    "training": replace(DEFAULT_TRAINING, patience=5),
    "epochs": 40,
}
"""Of networks on raw flow, which must learn more: they have more epochs and patience."""


@dataclass(frozen=True)
class Contestant:
    """One way of making forecasts, picked by its family and inputs."""

    name: str  # unique in a comparison
    family: str  # a network, `trees`, `baselines`
    inputs: str  # key in `INPUTS`; "" where there is no choice
    fitter: str | TreesConfig | Recipe  # key of a baseline, or how trees or networks are fitted

    @property
    def random(self) -> bool:
        """Whether another seed makes another forecaster."""
        return not isinstance(self.fitter, str)

    def settings(self, comparison: Comparison) -> dict[str, Any]:
        """Returns all that the forecaster follows from but data and seed, as JSON can hold it."""
        grower = {"scikit-learn": trees.version()}
        match self.fitter:
            case str(key):
                return {"baseline": key}
            case TreesConfig() as config:
                return {"trees": asdict(config), "horizon": comparison.horizon, **grower}
            case Recipe() as recipe:
                versions = {"flowcast": version("flowcast"), **(grower if recipe.trees else {})}
                return {**_with_limits(recipe, comparison, seed=0).to_fields(), **versions}

    def fit(self, comparison: Comparison, seed: int) -> Fitted:
        """Returns what knows training and validation, what knows training alone, and how it was fitted.

        The last are `epochs` or trees, and `plain`, the stacking weight of networks on raw flow.

        Raises:
            FlowcastError: it cannot be fitted.
        """
        train, validation, _ = comparison.parts
        match self.fitter:
            case str(key):
                fit, both = BASELINES[key].fit, xr.concat([train, validation], "time")
                first, last = (fit(flow, Climatology.fit(flow)) for flow in (train, both))
                return last, first, {"epochs": 0, "plain": 0.0}
            case TreesConfig() as config:
                horizon, weather = comparison.horizon, comparison.weather
                grown = trees.fit_trees(train, validation, horizon, config, seed, weather)
                return grown.forecaster, grown.selected, {"epochs": grown.rounds, "plain": 0.0}
            case Recipe() as recipe:
                # Members have consecutive seeds, and no two runs may share one.
                seed = seed if recipe.ensemble_size else seed * ENSEMBLE_SIZE
                result = fitted(
                    comparison.parts,
                    comparison.city,
                    _with_limits(recipe, comparison, seed),
                    weather=comparison.weather,
                    computing=Computing("cpu"),
                    timer=process_time,  # other work on the machine must not cost epochs
                )
                facts = {"epochs": sum(result.epochs), "plain": result.forecaster.raw_weight}
                return result.forecaster, result.selected, facts


class Run(NamedTuple):
    """A contestant with one random seed."""

    contestant: Contestant
    seed: int

    @property
    def label(self) -> str:
        """Name for people."""
        return self.contestant.name + f", seed {self.seed}" * self.contestant.random


def _with_limits(recipe: Recipe, comparison: Comparison, seed: int) -> Recipe:
    limits: dict[str, Any] = {"horizon": comparison.horizon, "minutes": comparison.minutes}
    return replace(recipe, training=replace(recipe.training, **limits, seed=seed))


_alone = partial(Recipe, ensemble_size=1, trees=False, raw_ensemble=False)
_changed = partial(Contestant, family="ablation", inputs="")

FULL = Contestant(f"{DEFAULT}, covariates", DEFAULT, "covariates", _alone(DEFAULT))
OWN = replace(FULL, name=f"{DEFAULT} and trees, covariates", family=f"{DEFAULT}+trees")
OWN = replace(OWN, fitter=Recipe(DEFAULT, trees=True))
"""What `forecast train` makes."""
CONTESTANTS = (
    *(Contestant(name, "baselines", "", name) for name in BASELINES),
    Contestant("trees, raw flow", "trees", "raw-flow", TreesConfig(context=False)),
    Contestant("trees, covariates", "trees", "covariates", TreesConfig()),
    *(Contestant(f"{name}, raw flow", name, "raw-flow", _alone(name, **RAW)) for name in NETWORKS),
    *(Contestant(f"{name}, covariates", name, "covariates", _alone(name)) for name in NETWORKS),
    OWN,
)
ABLATIONS = (
    *(_changed(f"{part} toggled", fitter=_alone(DEFAULT, toggled=(part,))) for part in PARTS),
    _changed("without refit", fitter=_alone(DEFAULT, refit=False)),
    _changed("all leads at once", fitter=_alone("swinlstm-direct")),
    _changed(
        "squared loss", fitter=_alone(DEFAULT, training=replace(DEFAULT_TRAINING, loss="squared"))
    ),
)
"""The city's network with one thing changed each. Where windows are many it is not refit anyway."""
ALL = ("baselines", *peers(), "trees", DEFAULT, OWN.family)
"""Families that `all` names."""
FAMILIES = (*dict.fromkeys(one.family for one in CONTESTANTS), "all", "ablation")


def chosen(networks: Sequence[str], seeds: int, inputs: Sequence[str] = tuple(INPUTS)) -> list[Run]:
    """Returns the runs of families and inputs, each random contestant with the seeds 0, 1 ...

    Baselines are always among them, for they cost nothing.

    Raises:
        FlowcastError: there is no such family or input, or none is named.
    """
    check_known("network", networks or [""], FAMILIES)
    check_known("input", inputs or [""], INPUTS)
    families = {"baselines", *networks, *(ALL if "all" in networks else ())}
    picked = [one for one in CONTESTANTS if one.family in families and one.inputs in ("", *inputs)]
    if "ablation" in networks:
        picked = list(dict.fromkeys([*picked, FULL, *ABLATIONS]))
    return [Run(one, seed) for seed in range(seeds) for one in picked if one.random or seed == 0]
