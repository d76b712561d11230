"""Runs and models: what was done and decided, why, and the commands by which people decide."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.dashboard import cached
from app.dashboard.markdown import plain
from app.dashboard.pages.data import taken_in
from app.dashboard.widgets import show_table
from data.city import City
from data.clock import duration, stamp
from data.store.promotions import REFUSED

LAST = 100
"""Rows of a table at most."""
MOST_JUDGEMENTS = 10


def page(city: City) -> None:
    """Draws the page."""
    store = cached.store()
    beat = store.heartbeats.newest("scheduler")
    if beat is None:
        st.info("No scheduler has ever run here; to start it: `forecast schedule`")
    else:
        age = float((cached.wall_clock() - beat["at"]) / np.timedelta64(1, "s"))
        st.markdown(
            f"**Scheduler**: last heard of {plain(duration(max(age, 0.0)))} ago, on "
            f"{plain(beat['host'])}, process {int(beat['pid'])}"
        )
    _versions(city)
    _promotions(city)
    _judgements(city)
    _jobs(city)
    _forecasts(city)
    taken_in(city)


def _versions(city: City) -> None:
    """Draws champion, previous and candidates with their figures."""
    store = cached.store()
    champion, previous = store.promotions.champion(city), store.promotions.previous(city)
    history = store.promotions.decisions(city)
    st.subheader("Versions")
    if champion is None:
        st.info("There is no champion: the historical average serves. To train one:")
        st.code(f"forecast train --city {city.name}", language=None)
    if history.empty:
        return
    newest = history.drop_duplicates("version", keep="last").iloc[::-1].head(LAST)
    roles = {champion: "champion", previous: "previous"}
    table = pd.DataFrame(
        {
            "version": newest["version"],
            "role": [
                roles.get(one, "candidate" if verdict == REFUSED else "former champion")
                for one, verdict in zip(newest["version"], newest["verdict"], strict=True)
            ],
            "judged": [stamp(np.datetime64(at, "s"), city.timezone) for at in newest["at"]],
            "verdict": newest["verdict"],
            "RMSE": [_figure(gates) for gates in newest["gates"]],
            "gates passed": [_passed(gates) for gates in newest["gates"]],
            "reason": newest["reason"],
        }
    )
    show_table("versions", table, "Versions, the newest judgement of each")
    st.markdown("To decide by hand, on the host where the models are:")
    commands = [f"models show --city {city.name} {champion or newest['version'].iloc[0]}"]
    if previous is not None:
        commands += [
            f"models promote --city {city.name} {previous}",
            f"models rollback --city {city.name}",
        ]
    st.code("\n".join(f"forecast {one}" for one in commands), language=None)
    if previous is None:
        st.caption("There is no other version to promote, or to go back to, yet.")


def _promotions(city: City) -> None:
    """Draws which version was champion from when on; what stands there is never changed."""
    promotions = cached.store().promotions.table(city).iloc[::-1].head(LAST)
    if promotions.empty:
        return
    table = pd.DataFrame(
        {
            "champion from": [
                stamp(np.datetime64(at, "s"), city.timezone) for at in promotions["at"]
            ],
            "version": promotions["version"],
            "reason": promotions["reason"],
        }
    )
    show_table("promotions", table, "Promotions, the newest first")


def _gates(gates: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in gates.items() if isinstance(one, dict) and "passed" in one}


def _figure(gates: dict[str, Any]) -> str:
    """Returns the candidate's RMSE on the days it was judged by, "" where it was not.

    A training by hand judges by the validation days and asks for no gates.
    """
    by_hand = gates.get("validation RMSE", {}).get("candidate", {}).get("all")
    if by_hand is not None:
        return f"{by_hand:.2f}"
    for name, gate in _gates(gates).items():
        if name.startswith(("baseline", "overall")) and gate.get("value") is not None:
            return f"{gate['value']:.2f}"
    return ""


def _passed(gates: dict[str, Any]) -> str:
    asked = _gates(gates)
    return f"{sum(bool(one['passed']) for one in asked.values())} of {len(asked)}" if asked else ""


def _judgements(city: City) -> None:
    """Draws each judgement with its gates."""
    history = cached.store().promotions.decisions(city)
    if history.empty:
        return
    st.subheader("Judgements, the newest first")
    for number, row in history.iloc[::-1].head(MOST_JUDGEMENTS).iterrows():
        at = stamp(np.datetime64(row["at"], "s"), city.timezone)
        title = f"{at}  {row['version']}  {row['verdict']}"
        with st.expander(plain(title)):
            st.markdown(plain(row["reason"]))
            gates = _gates(dict(row["gates"]))
            if gates:
                table = pd.DataFrame(
                    {
                        "gate": [*gates],
                        "outcome": [
                            "passed" if one["passed"] else "failed" for one in gates.values()
                        ],
                        "found": [str(one.get("sentence", "")) for one in gates.values()],
                    }
                )
                show_table(f"gates-{number}", table, f"Gates of {row['version']}", at)


def _jobs(city: City) -> None:
    """Draws the ledger of jobs."""
    runs = cached.store().runs.table(city.name, last=LAST).iloc[::-1]
    st.subheader("Jobs")
    if runs.empty:
        st.info("No job has run for this city; to start them: `forecast schedule`")
        return
    seconds = (runs["ended_at"] - runs["started_at"]).dt.total_seconds()
    table = pd.DataFrame(
        {
            "job": runs["job"],
            "for": [stamp(np.datetime64(at, "s"), city.timezone) for at in runs["scheduled_for"]],
            "outcome": runs["outcome"],
            "tries": runs["attempt"],
            "seconds": seconds,
            "message": runs["message"],
        }
    )
    show_table("jobs", table, f"The newest {len(table)} jobs", height=300)


def _forecasts(city: City) -> None:
    """Draws the list of forecasts."""
    made = cached.store().forecasts.table(city, LAST).iloc[::-1]
    st.subheader("Forecasts")
    if made.empty:
        st.info(f"None is stored; to make one: `forecast --city {city.name} --horizon 4`")
        return
    table = pd.DataFrame(
        {
            "made at": [stamp(np.datetime64(at, "s"), city.timezone) for at in made["init_time"]],
            "stored at": [
                stamp(np.datetime64(at, "s"), city.timezone) for at in made["created_at"]
            ],
            "steps": made["horizon"],
            "forecaster": made["forecaster"],
            "version": made["version"],
            "notes": made["notes"],
        }
    )
    show_table("forecasts", table, f"The newest {len(table)} forecasts", height=300)
