"""Nightly: a candidate is trained on frozen data, judged, and promoted only if every gate passes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from data.city import City
from data.clock import Clock
from data.errors import FlowcastError, NotNowError
from data.flow import no_flow
from data.paths import models_root
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.registry.integrity import manifest_hash
from forecasting.registry.manifest import versions
from forecasting.registry.versions import remove_version
from pipelines.forecast.champion import problems
from pipelines.promotion.gates import Gate
from pipelines.promotion.judge import record, run_gates
from pipelines.train.checkpoints import read_recipe
from pipelines.train.city import RunOptions, TrainingEvent, resume, train
from pipelines.train.version import Trained

JUDGE_DAYS = 7
"""Newest days, which no candidate is trained on."""
KEPT = 5
"""Versions that are kept, beside the champion and the one before it."""


@dataclass(frozen=True)
class Night:
    """What a night's training came to.

    Attributes:
        version: of the candidate.
        promoted: whether it is the champion now.
        reason: for people.
        gates: what was asked, and found.
        removed: old versions that were removed.
    """

    version: str
    promoted: bool
    reason: str
    gates: tuple[Gate, ...]
    removed: tuple[str, ...] = ()


def nightly(
    store: Store,
    city: City,
    now: np.datetime64,
    *,
    recipe: Recipe | None = None,
    options: RunOptions | None = None,
    days: int = JUDGE_DAYS,
    warm: bool = False,
) -> Iterator[TrainingEvent | Night]:
    """Trains, judges and perhaps promotes a version, and yields its progress, at the end the outcome.

    The data are frozen at the newest slot of `now`: what comes in meanwhile is not looked at, and a
    night that was interrupted goes on with the same.

    Args:
        store: with flow, champion and judgements.
        city: that is trained for.
        now: UTC.
        recipe: of the training; its `minutes` are the night's budget.
        options: by which it is trained.
        days: the newest ones, which nothing is trained on and all are judged by.
        warm: whether the fits begin with the champion's weights, where they fit.

    Raises:
        FlowcastError: as `train`, or there is too little flow to judge by.
        NotNowError: it was ended; the next one goes on where this one was kept.
    """
    span = store.flow.span(city, last=now)
    if span is None:
        raise no_flow(city)
    asked = recipe or Recipe.from_options(minutes=30.0)
    start = _sound_champion(store, city) if warm else ""
    tonight = replace(asked, until=f"{span[1]}", holdout_days=days, warm_start=start)
    options = replace(options or RunOptions(), promote=False)
    trained: Trained | None = None
    ended = NotNowError(
        f"the night's training of {city.name} was ended; it goes on where it was kept"
    )
    try:
        for event in _trained(store, city, tonight, options):
            if isinstance(event, Trained):
                trained = event
            else:
                yield event
    except FlowcastError as error:
        if options.stop is not None and options.stop.is_set():
            raise ended from error
        raise
    if trained is None:  # of several processes the first one alone makes a version
        return
    if trained.stopped:  # a part of a night is no candidate
        raise ended
    yield settle(
        store,
        city,
        trained.manifest.version,
        now=now,
        until=span[1],
        horizon=asked.training.horizon,
    )


def settle(
    store: Store,
    city: City,
    version: str,
    *,
    now: np.datetime64,
    until: np.datetime64,
    horizon: int,
) -> Night:
    """Judges a candidate, promotes it if every gate passes, and keeps the judgement.

    Args:
        store: with flow, champion and judgements.
        city: whose version it is.
        version: the candidate.
        now: UTC, for the history.
        until: UTC; the newest slot that is judged by.
        horizon: steps ahead.
    """
    manifest = manifest_hash(models_root(), city.name, version)
    champion, failure, found = store.promotions.champion(city), "", list[Gate]()
    try:
        found = run_gates(store, city, version, until=until, horizon=horizon)
    except FlowcastError as error:
        failure = f"it could not be judged: {error}"
    promoted, reason, found = record(
        store,
        city,
        version,
        found,
        manifest=manifest,
        champion=champion,
        now=now,
        failure=failure,
    )
    return Night(version, promoted, reason, tuple(found), tuple(prune(store, city)))


def _sound_champion(store: Store, city: City) -> str:
    """Returns the champion where its files are what was judged, else "": then a night begins anew."""
    champion = store.promotions.champion(city)
    return "" if champion is None or problems(store, city, champion) else champion


def prune(store: Store, city: City) -> list[str]:
    """Removes old versions and returns which; champion, the one before it and the newest stay."""
    known = versions(models_root(), city.name)
    kept = {store.promotions.champion(city), store.promotions.previous(city), *known[-KEPT:]}
    old = [version for version in known if version not in kept]
    for version in old:
        remove_version(models_root(), city.name, version)
    return old


def _trained(
    store: Store, city: City, recipe: Recipe, options: RunOptions
) -> Iterator[TrainingEvent | Trained]:
    """Yields a training, going on with one of the same day that was interrupted."""
    try:
        last = read_recipe(city)
    except FlowcastError:
        last = None
    if last is not None and last.until and _same_night(last, recipe, city):
        try:
            yield from resume(store, city, options=options)
            return
        except NotNowError:
            raise
        except FlowcastError:  # it was done, or what it knew has been corrected since
            pass
    yield from train(store, city, recipe, options=options)


def _same_night(last: Recipe, recipe: Recipe, city: City) -> bool:
    """Returns whether a training knows all but the newest hours, and is else the same."""
    clock = Clock(city.step, city.timezone)
    newer = clock.number(np.datetime64(recipe.until), np.datetime64(last.until))
    settled = replace(
        recipe,
        until=last.until,
        context=last.context,
        ensemble_size=last.ensemble_size,
        epochs=last.epochs,
        trees=last.trees if recipe.trees is None else recipe.trees,
        raw_ensemble=last.raw_ensemble if recipe.raw_ensemble is None else recipe.raw_ensemble,
        refit=last.refit if recipe.refit is None else recipe.refit,
        optimizer=last.optimizer if recipe.optimizer is None else recipe.optimizer,
        training=replace(
            recipe.training, epochs=last.training.epochs, optimizer=last.training.optimizer
        ),
    )
    return 0 <= int(newer) < city.slots_per_day // 2 and settled == last
