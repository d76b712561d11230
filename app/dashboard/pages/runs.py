"""Runs and models: what ran and which versions were promoted, why, and the commands to decide by hand."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.dashboard import cached
from app.dashboard.markdown import literal
from app.dashboard.pages.data import show_ingests
from app.dashboard.widgets import show_table
from data.city import City
from data.clock import duration, stamp
from data.store.promotions import REFUSED

MAX_ROWS = 100
MAX_DECISIONS = 10


def draw(city: City) -> None:
    """Draws the page."""
    beat = cached.store().heartbeats.newest("scheduler")
    if beat is None:
        st.info("No scheduler has run here yet; to start it: `forecast schedule`")
    else:
        age = float((cached.wall_clock() - beat["at"]) / np.timedelta64(1, "s"))
        st.markdown(
            f"**Scheduler**: last heartbeat {literal(duration(max(age, 0.0)))} ago, on "
            f"{literal(beat['host'])}, process {int(beat['pid'])}"
        )
    decisions = cached.store().promotions.decisions(city)
    _draw_versions(city, decisions)
    _draw_promotions(city)
    _draw_decisions(city, decisions)
    _draw_jobs(city)
    _draw_forecasts(city)
    show_ingests(city)


def _stamps(times: pd.Series, city: City) -> list[str]:
    return [stamp(np.datetime64(at, "s"), city.timezone) for at in times]


def _draw_versions(city: City, decisions: pd.DataFrame) -> None:
    """Draws champion, previous champion and candidates with their errors."""
    promotions = cached.store().promotions
    champion, previous = promotions.champion(city), promotions.previous(city)
    st.subheader("Versions")
    if champion is None:
        st.info("There is no champion; a baseline stands in. To train a model:")
        st.code(f"forecast train --city {city.name}", language=None)
    if decisions.empty:
        return
    newest = decisions.drop_duplicates("version", keep="last").iloc[::-1].head(MAX_ROWS)
    roles = {champion: "champion", previous: "previous"}
    table = pd.DataFrame(
        {
            "version": newest["version"],
            "role": [
                roles.get(one, "candidate" if verdict == REFUSED else "former champion")
                for one, verdict in zip(newest["version"], newest["verdict"], strict=True)
            ],
            "decided": _stamps(newest["at"], city),
            "verdict": newest["verdict"],
            "RMSE": [_rmse(gates) for gates in newest["gates"]],
            "gates passed": [_passed(gates) for gates in newest["gates"]],
            "reason": newest["reason"],
        }
    )
    show_table("versions", table, "Versions, with the newest decision on each")
    st.markdown("To decide by hand, on the host that has the models:")
    commands = [f"models show --city {city.name} {champion or newest['version'].iloc[0]}"]
    if previous is not None:
        commands += [
            f"models promote --city {city.name} {previous}",
            f"models rollback --city {city.name}",
        ]
    st.code("\n".join(f"forecast {one}" for one in commands), language=None)
    if previous is None:
        st.caption("There is no other version to promote, or to roll back to, yet.")


def _draw_promotions(city: City) -> None:
    """Draws since when each version was champion."""
    promotions = cached.store().promotions.table(city).iloc[::-1].head(MAX_ROWS)
    if len(promotions):
        table = promotions[["version", "reason"]].copy()
        table.insert(0, "champion from", _stamps(promotions["at"], city))
        show_table("promotions", table, "Promotions, newest first")


def _gates(gates: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in gates.items() if isinstance(one, dict) and "passed" in one}


def _rmse(gates: dict[str, Any]) -> str:
    """Returns the candidate's RMSE on the days of the decision, "" if unknown.

    `forecast train` decides by the validation days and has no gates.
    """
    validation = gates.get("validation RMSE", {}).get("candidate", {}).get("all")
    if validation is not None:
        return f"{validation:.2f}"
    for name, gate in _gates(gates).items():
        if name.startswith(("baseline", "overall")) and gate.get("value") is not None:
            return f"{gate['value']:.2f}"
    return ""


def _passed(gates: dict[str, Any]) -> str:
    outcomes = [bool(one["passed"]) for one in _gates(gates).values()]
    return f"{sum(outcomes)} of {len(outcomes)}" if outcomes else ""


def _draw_decisions(city: City, decisions: pd.DataFrame) -> None:
    """Draws the newest decisions with their gates."""
    if decisions.empty:
        return
    st.subheader("Decisions, newest first")
    for number, row in decisions.iloc[::-1].head(MAX_DECISIONS).iterrows():
        at = stamp(np.datetime64(row["at"], "s"), city.timezone)
        with st.expander(literal(f"{at}  {row['version']}  {row['verdict']}")):
            st.markdown(literal(row["reason"]))
            if gates := _gates(dict(row["gates"])):
                outcomes = ["passed" if one["passed"] else "failed" for one in gates.values()]
                found = [str(one.get("sentence", "")) for one in gates.values()]
                table = pd.DataFrame({"gate": [*gates], "outcome": outcomes, "found": found})
                show_table(f"gates-{number}", table, f"Gates of {row['version']}", at)


def _draw_jobs(city: City) -> None:
    """Draws the newest jobs."""
    runs = cached.store().runs.table(city.name, last=MAX_ROWS).iloc[::-1]
    st.subheader("Jobs")
    if runs.empty:
        st.info("No job has run for this city; to start jobs: `forecast schedule`")
        return
    table = pd.DataFrame(
        {
            "job": runs["job"],
            "for": _stamps(runs["scheduled_for"], city),
            "outcome": runs["outcome"],
            "tries": runs["attempt"],
            "seconds": (runs["ended_at"] - runs["started_at"]).dt.total_seconds(),
            "message": runs["message"],
        }
    )
    show_table("jobs", table, f"The newest {len(table)} jobs", height=300)


def _draw_forecasts(city: City) -> None:
    """Draws the newest forecasts."""
    made = cached.store().forecasts.table(city, MAX_ROWS).iloc[::-1]
    st.subheader("Forecasts")
    if made.empty:
        st.info(f"No forecast is stored; to make one: `forecast --city {city.name} --horizon 4`")
        return
    table = pd.DataFrame(
        {
            "made at": _stamps(made["init_time"], city),
            "stored at": _stamps(made["created_at"], city),
            "steps": made["horizon"],
            **{name: made[name] for name in ("forecaster", "version", "notes")},
        }
    )
    show_table("forecasts", table, f"The newest {len(table)} forecasts", height=300)
