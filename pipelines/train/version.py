"""A candidate: the best epoch of a training as a version, judged as it will serve, and kept."""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from data.city import City
from data.errors import FlowcastError
from data.paths import models_root
from data.store.store import Store
from forecasting.city.fit import FitPlan, chosen, stacking_weight, trees_weight
from forecasting.city.task import CityTask
from forecasting.city.trees import LEAST, FittedTrees
from forecasting.intervals.conformal import calibrated
from forecasting.registry.covariate_tensors import covariate_fields
from forecasting.registry.integrity import manifest_hash
from forecasting.registry.manifest import Manifest, read_manifest
from forecasting.registry.versions import VersionTakenError, flow_hash, load_weights, save_version
from forecasting.rollout.torch_rollout import weights_of
from forecasting.training.state import TrainingState
from forecasting.trees.forecaster import installed
from forecasting.trees.onnx_trees import OnnxTrees, write_trees
from pipelines.forecast.champion import problems
from pipelines.forecast.notes import unknown_years
from pipelines.promotion.gates import notes as few_windows
from pipelines.promotion.judge import record
from pipelines.promotion.validation import champion_of, former_of, gates_of, scores_of, span
from pipelines.train.export import ServingForm, serving_form

MADE = "%Y%m%d-%H%M%S"
"""How a version's name begins: when it was made, in UTC."""
UNSEEN = (
    "the forecaster does not use the weather: with so few windows it would be overfitted; "
    "--with weather uses it"
)
UNFINISHED = (
    "the forecast has no raw-flow networks: their training was stopped, or its loss was not finite"
)
USELESS = "raw-flow networks are left out: they do not lower the RMSE on the validation days"


@dataclass(frozen=True)
class Trained:
    """A version that was trained, and what was decided of it.

    Attributes:
        manifest: of the version.
        promoted: whether it is the champion now.
        reason: for people.
        stopped: whether training was stopped before its last planned epoch.
        notes: what a person should know of how it serves.
    """

    manifest: Manifest
    promoted: bool
    reason: str
    stopped: bool
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What was decided, in a line."""
        place = "is the champion now" if self.promoted else "is kept as a candidate"
        return f"version {self.manifest.version} {place}: {self.reason}"


class MemberGroup(NamedTuple):
    """Networks that see the same.

    Attributes:
        judged: what those know by which epochs were chosen.
        serving: what those know that serve.
        selected: a state for each member, by which its epochs were chosen.
        final: a state for each member that serves; none where the selected ones do.
    """

    judged: CityTask
    serving: CityTask
    selected: list[TrainingState]
    final: list[TrainingState]


@dataclass(frozen=True)
class FitResults:
    """The fits that a version is made of.

    Attributes:
        plan: of the training.
        selected: a state for each member, by which its epochs were chosen.
        final: a state for each member that serves; none where the selected ones do.
        grown: trees that may have a share in the forecast; None for none.
    """

    plan: FitPlan
    selected: list[TrainingState]
    final: list[TrainingState]
    grown: FittedTrees | None = None

    @property
    def kinds(self) -> "list[MemberGroup]":
        """The networks that see a context, and where there are any those on frames alone."""
        plan, each = self.plan, self.plan.each
        judged = [plan.task] if plan.plain is None else [plan.task, plan.plain]
        found = []
        for task, start in zip(judged, range(0, plan.members, each), strict=True):
            if not (selected := self.selected[start : start + each]):
                break
            final = self.final[start : start + each]
            serving = plan.final(start, selected[0]) if final else task
            found.append(MemberGroup(task, serving, selected, final))
        return found

    @property
    def training(self) -> dict[str, Any]:
        """What is told of the training in the manifest."""
        states = [("selection", one) for one in self.selected]
        states += [("final", one) for one in self.final]
        fits = [
            {
                "kind": kind,
                "seed": state.config.seed,
                "chosen_epoch": max(epoch.number for epoch in state.history if epoch.best),
                "history": [asdict(epoch) for epoch in state.history],
            }
            for kind, state in states
        ]
        return {**asdict(self.plan.recipe.training), "fits": fits}


def save_and_judge(
    store: Store, city: City, fits: FitResults, serve: str, stopped: bool
) -> Trained:
    """Saves the fits as a version, judges it and promotes it if it is good enough.

    It is judged by the networks that know the training days alone; those that serve may know the
    validation days too.
    """
    champion = store.promotions.champion(city)
    made = save_candidate(store, city, fits, serve, stopped)
    version = made.manifest.version
    found = gates_of(
        made.manifest.metrics,
        fits.plan.task.init_times,
        city.timezone,
        replaces=champion is not None and not problems(store, city, champion),
    )
    promoted, reason, found = record(
        store,
        city,
        version,
        found,
        manifest=manifest_hash(models_root(), city.name, version),
        champion=champion,
        now=np.datetime64(pd.Timestamp.now("UTC").tz_localize(None), "s"),
    )
    notes = (*made.notes, *few_windows(found)) if promoted else made.notes
    return replace(made, promoted=promoted, reason=reason, notes=notes)


def save_candidate(
    store: Store, city: City, fits: FitResults, serve: str, stopped: bool
) -> Trained:
    """Saves the fits as a version, with its errors on the validation days, and promotes nothing."""
    judged, kinds = fits.plan.task, fits.kinds
    (service, served, networks), *beside = _all_services(kinds, serve)
    service, trees, told = _with_trees(service, fits)
    facts, plain, alone = {**service.facts, **served.facts}, None, {}
    notes = [UNFINISHED] if fits.plan.recipe.raw_ensemble and not beside else []
    for theirs, last, more in beside:
        share = stacking_weight(judged, service.forecaster, theirs.forecaster)
        if share < LEAST:
            notes.append(USELESS)
            continue
        mixed = service.forecaster.with_raw(theirs.forecaster, share)
        service = replace(service, forecaster=mixed, notes=(*service.notes, *theirs.notes))
        plain, alone = kinds[1].serving.context, {"members": len(more), "share": share}
        served, facts = _together(served, last, facts)
        networks += more
    scores = scores_of(service.forecaster, champion_of(store, city, judged), judged)
    if (former := former_of(store, city, judged)) is not None:
        scores["champion"] = former
    manifest = replace(_manifest(city, fits, scores, facts), trees=told, plain=alone)
    weights = [weights_of(network) for network in networks]
    # Errors of the days held back, which the networks that serve then learn from: a little too wide.
    bands = calibrated(service.forecaster, judged.known, judged.init_times, judged.config.horizon)
    context = kinds[0].serving.context
    manifest = _saved(manifest, weights, context, served.models, bands, trees, plain)
    notes = [
        *dict.fromkeys((*service.notes, *served.notes)),
        *notes,
        *([UNSEEN] if _is_unseen(fits) else []),
        *unknown_years(judged.known, judged.known["time"].values),
    ]
    return Trained(manifest, False, "it is to be judged", stopped, tuple(notes))


ServingForms = tuple[ServingForm, ServingForm, list[nn.Module]]
"""How networks of a kind are judged, how they will serve, and those that will."""


def _all_services(kinds: Sequence[MemberGroup], serve: str) -> list[ServingForms]:
    """Returns how the networks of each kind serve, all in one precision."""
    made = [_services(kind, serve) for kind in kinds]
    if len({served.facts.get("precision") for _, served, _ in made}) == 1:
        return made
    (service, served, networks), *rest = (_services(kind, "float32") for kind in kinds)
    each = [one for *both, _ in made for one in both]
    why = [note for one in each if one.facts.get("precision") != serve for note in one.notes]
    return [(replace(service, notes=(*service.notes, *why)), served, networks), *rest]


def _services(kind: MemberGroup, serve: str) -> ServingForms:
    """Returns how the networks of a kind serve, in a precision as `serving_form` takes it."""
    known = [chosen(state) for state in kind.selected]
    service = serving_form(kind.judged, known, serve)
    if not kind.final:
        return service, service, known
    networks = [chosen(state) for state in kind.final]
    precision = str(service.facts.get("precision", "float32"))
    return service, serving_form(kind.serving, networks, precision, judged=True), networks


def _together(
    first: ServingForm, second: ServingForm, facts: dict[str, Any]
) -> tuple[ServingForm, dict[str, Any]]:
    """Returns how networks of both kinds serve, and what the manifest tells of it.

    Where one kind has no export that may serve, torch serves both.
    """
    if not (first.models and second.models):
        told = {**second.facts, **first.facts}
        failed = {"failed": told["failed"]} if "failed" in told else {}
        return replace(first, models=(), notes=(*first.notes, *second.notes)), failed
    farthest = max(facts["difference"], second.facts["difference"])
    models = (*first.models, *second.models)
    return replace(first, models=models), {**facts, "difference": farthest}


def _is_unseen(fits: FitResults) -> bool:
    """Returns whether there is weather that nobody asked to leave out, and that is not shown."""
    task, recipe = fits.plan.task, fits.plan.recipe
    shown = task.weather is None or task.context.config.weather
    return not shown and "weather" not in recipe.without


def _with_trees(
    service: ServingForm, fits: FitResults
) -> tuple[ServingForm, list[bytes], dict[str, Any]]:
    """Returns the service of the selection with the trees' share in it, and what is kept of them.

    They stay away, and a note says why, where the validation days give them no share or their export
    is not what they are.
    """
    task, grown = fits.plan.task, fits.grown

    def alone(reason: str) -> tuple[ServingForm, list[bytes], dict[str, Any]]:
        note = f"networks serve without trees: {reason}"
        return replace(service, notes=(*service.notes, note)), [], {}

    if grown is None:
        if fits.plan.recipe.trees:
            return alone("training was stopped before they were grown")
        return (service, [], {}) if installed() else alone("scikit-learn is not installed")
    try:
        judges, serving = (
            [write_trees(model) for model in trees.models]
            for trees in (grown.selected, grown.final)
        )
    except FlowcastError as error:
        return alone(str(error))
    selected = replace(grown.selected, models=tuple(map(OnnxTrees, judges)))
    share = trees_weight(task, service.forecaster, selected)
    if share < LEAST:
        return alone("on the validation days they add nothing")
    facts = {
        "share": share,
        "shares": list(grown.final.shares),
        "history": grown.final.history,
        "rounds": list(grown.rounds),
    }
    return (
        replace(service, forecaster=service.forecaster.with_trees(selected, share)),
        serving,
        facts,
    )


def starting_weights(
    city: City, version: str, member: int, task: CityTask
) -> dict[str, np.ndarray] | None:
    """Returns the weights of a member of a version, None where they do not fit the task.

    Raises:
        FlowcastError: the version cannot be read.
    """
    manifest = read_manifest(models_root(), city.name, version)
    own, config = asdict(task.around) if task.around else {}, asdict(task.network)
    # A forecaster that sees frames alone has none beside it, and may have been trained so itself.
    bare = not own and bool(manifest.plain)
    ours = (task.name, config, manifest.around if bare else own)
    written = json.loads(json.dumps(ours))
    if [manifest.network, manifest.config, manifest.around] != list(written):
        return None
    count = int(manifest.plain["members"]) if bare else manifest.members
    return load_weights(models_root(), manifest, member % count + bare * manifest.members)


def _saved(manifest: Manifest, *parts: Any) -> Manifest:
    """Saves a version, under the name of a later second where another has its own."""
    made, rest = manifest.version[:15], manifest.version[15:]
    while True:
        try:
            save_version(models_root(), manifest, *parts)
        except VersionTakenError:
            later = pd.to_datetime(made, format=MADE) + pd.Timedelta(seconds=1)
            made = f"{later:{MADE}}"
            manifest = replace(manifest, version=made + rest)
        else:
            return manifest


def _manifest(
    city: City, fits: FitResults, scores: dict[str, dict[str, float]], facts: dict[str, Any]
) -> Manifest:
    judged, task = fits.plan.task, fits.kinds[0].serving
    digest = flow_hash(judged.known)
    made = f"{pd.Timestamp.now('UTC'):{MADE}}"
    return Manifest(
        version=f"{made}-{digest[:4]}{judged.config.seed:02d}",
        city=city.name,
        timezone=city.timezone,
        step=int(city.step / np.timedelta64(1, "s")),
        grid=city.grid,
        network=task.name,
        config=asdict(task.network),
        around=asdict(task.around) if task.around else {},
        context=covariate_fields(task.context),
        members=len(fits.kinds[0].selected),
        training=fits.training,
        history=task.config.history,
        selected=span(judged.train),
        # What follows the days that it was trained on chose its epochs: it is no judge either.
        trained=span(judged.known),
        data_hash=digest,
        metrics=scores,
        code_version=importlib.metadata.version("flowcast"),
        export=facts,
    )
