"""`forecast models`: the versions of a city, their history, and who is champion."""

from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from app.cli.options import CityOption, JsonOption
from app.terminal import OUT, print_json, print_table
from data.city import City, load_city
from data.clock import stamp
from data.errors import FlowcastError
from data.paths import models_root
from data.store.promotions import PROMOTED, ROLLED_BACK
from data.store.store import Store
from forecasting.registry.integrity import manifest_hash
from forecasting.registry.manifest import Manifest, read_manifest, versions
from pipelines.forecast.champion import problems

app = typer.Typer(
    help="List, show, promote, roll back and verify the versions of a city's model.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
BY_HAND = "by hand"
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="Name of the version, see: forecast models list.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Note this reason in the history.")
]


@app.command("list")
def list_versions(city: CityOption, as_json: JsonOption = False) -> None:
    """List the versions of a city and the history of promotions."""
    place, store = load_city(city), Store()
    champion, previous = store.promotions.champion(place), store.promotions.previous(place)
    history = store.promotions.decisions(place)
    known = versions(models_root(), city)
    if as_json:
        rows = history.assign(at=[f"{np.datetime64(at, 's')}Z" for at in history["at"]])
        print_json(
            {
                **{"champion": champion, "previous": previous, "versions": known},
                "history": rows.to_dict("records"),
            }
        )
        return
    table = Table("version", "", "trained until", "validation RMSE")
    for version in known:
        role = {champion: "champion", previous: "previous"}.get(version, "")
        table.add_row(version, role, *_figures(place, version))
    print_table(table)
    decisions = Table("when", "version", "verdict", "reason")
    for row in history.astype(str).to_numpy().tolist():
        at, version, _, verdict, _, reason = row
        decisions.add_row(stamp(np.datetime64(at), place.timezone), version, verdict, reason)
    if len(history):
        print_table(decisions)


@app.command()
def show(city: CityOption, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Show the facts of a version and the outcome of each gate."""
    place, store = load_city(city), Store()
    manifest = read_manifest(models_root(), city, version)
    history = store.promotions.decisions(place)
    own = history[history["version"] == version]
    if as_json:
        decisions = own.assign(at=[f"{np.datetime64(at, 's')}Z" for at in own["at"]])
        print_json({"manifest": vars(manifest), "judgements": decisions.to_dict("records")})
        return
    for name, text in _facts(manifest).items():
        OUT.print(f"{name}: {text}", markup=False)
    for row in own.to_dict("records"):
        at = stamp(np.datetime64(str(row["at"])), place.timezone)
        OUT.print(f"{at} {row['verdict']}: {row['reason']}", markup=False)
        gates: dict[str, dict[str, object]] = dict(row["gates"])
        for name, gate in gates.items():
            if "passed" in gate:
                word = "passed" if gate["passed"] else "failed"
                OUT.print(f"  {word}  {name}: {gate['sentence']}", markup=False)


@app.command()
def promote(city: CityOption, version: VersionArgument, reason: ReasonOption = BY_HAND) -> None:
    """Make a version the champion after verifying its files."""
    place, store = load_city(city), Store()
    _check(store, place, version)
    judged = manifest_hash(models_root(), city, version)
    store.promotions.decide(
        place, version, PROMOTED, _clean(reason), _now(), manifest_sha256=judged
    )
    OUT.print(f"version {version} is the champion of {city} now", markup=False)


@app.command()
def rollback(city: CityOption, reason: ReasonOption = BY_HAND) -> None:
    """Make the previous champion the champion again after verifying its files."""
    place, store = load_city(city), Store()
    previous = store.promotions.previous(place)
    if previous is None:
        raise FlowcastError(
            f"{city} had no champion before this one; to choose: forecast models promote --city {city} "
            f"VERSION"
        )
    _check(store, place, previous)
    store.promotions.decide(place, previous, ROLLED_BACK, _clean(reason), _now())
    OUT.print(f"version {previous} is the champion of {city} again", markup=False)


@app.command("verify")
def verify_versions(
    city: CityOption,
    version: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]", show_default="all versions", help="Name of the version to verify."
        ),
    ] = "",
) -> None:
    """Verify the files of one version, or of all, against the checksums of their promotion."""
    place, store = load_city(city), Store()
    serving = [store.promotions.champion(place), store.promotions.previous(place)]
    every = {*versions(models_root(), city), *(one for one in serving if one)}
    names = [version] if version else sorted(every)
    if not names:
        raise FlowcastError(f"{city} has no version; to train one: forecast train --city {city}")
    wrong = {name: problems(store, place, name) for name in names}
    for name, sentences in wrong.items():
        OUT.print(f"{name}: {'; '.join(sentences) or 'ok'}", markup=False)
    if any(wrong.values()):
        raise typer.Exit(1)


def _check(store: Store, city: City, version: str) -> None:
    read_manifest(models_root(), city.name, version)
    if wrong := problems(store, city, version):
        raise FlowcastError(f"{wrong[0]}; nothing was changed; choose another version")


def _clean(reason: str) -> str:
    """Returns a reason in which bytes of the command line that are no text stand as such."""
    return reason.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _now() -> np.datetime64:
    from pipelines.operate.job import present

    return present()


def _figures(city: City, version: str) -> tuple[str, str]:
    """Returns until when a version is trained, and its validation RMSE, for people."""
    try:
        manifest = read_manifest(models_root(), city.name, version)
    except FlowcastError as error:
        return str(error), ""
    until = np.datetime64(manifest.trained[1].removesuffix("Z"))
    rmse = manifest.metrics.get("candidate", {}).get("all", float("nan"))
    return stamp(until, city.timezone), f"{rmse:.2f}"


def _facts(manifest: Manifest) -> dict[str, str]:
    errors = {name: f"{one['all']:.2f}" for name, one in manifest.metrics.items()}
    return {
        "version": manifest.version,
        "network": f"{manifest.network}, {manifest.members} ensemble members{_raw_flow(manifest)}",
        "trees": f"stacking weight {manifest.trees['share']:.2f}" if manifest.trees else "none",
        "trained": f"{manifest.trained[0]} to {manifest.trained[1]}",
        "validation RMSE": ", ".join(f"{name} {text}" for name, text in errors.items()),
        "code": manifest.code_version,
        "weights": manifest.weights_sha256,
    }


def _raw_flow(manifest: Manifest) -> str:
    if not manifest.plain:
        return ""
    count, share = manifest.plain["members"], manifest.plain["share"]
    return f", and {count} without covariates with stacking weight {share:.2f}"
