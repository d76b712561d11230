"""The list of hot spots; choosing one chooses its cell."""

import zlib

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.dashboard import cached
from app.dashboard.downloads import zoned
from app.dashboard.widgets import cell_changes, change_view, show_table, view
from data.city import City
from data.clock import local
from pipelines.insight.trust import Trust


def show_hot_spots(
    city: City, state: str, made: np.datetime64, typical: xr.Dataset
) -> pd.DataFrame:
    """Draws the hot spots, or why there is none, and returns them.

    Args:
        city: whose they are.
        state: of its store.
        made: UTC; init_time of the forecast.
        typical: flow at the times of the forecast.
    """
    spots = cached.hot_spots_of(city, state, view().time, view().channel, view().threshold)
    if spots.empty:
        st.markdown("**Hot spots**")
        _explain_none(typical, cached.trust_of(city, state, view().time))
        return spots
    confident = spots["lower"] > spots["limit"]
    title = f"Hot spots of {view().channel}: {len(spots)}"
    if confident.any():
        title += f", {int(confident.sum())} confident: the whole 80 % interval is above the limit"
    table = pd.DataFrame(
        {
            "row": spots["y"],
            "column": spots["x"],
            "time": [
                f"{at:%a %H:%M}" for at in local(spots["valid_time"].to_numpy(), city.timezone)
            ],
            "forecast": spots["flow"].round(1),
            "80 % interval": [
                "" if np.isnan(low) else f"{low:.0f} to {high:.0f}"
                for low, high in zip(spots["lower"], spots["upper"], strict=True)
            ],
            "confident": ["yes" if one else "" for one in confident],
            "typical": spots["usual"].round(1),
            "why": spots["reason"],
        }
    )
    event = show_table(
        _list_key(spots, made),
        table,
        title,
        zoned(made, city),
        on_select="rerun",
        selection_mode="single-row",
        height=215,
    )
    chosen = event.get("selection", {}).get("rows", [])
    if chosen and chosen[0] < len(table):
        row = spots.iloc[chosen[0]]
        cell = int(row["y"]), int(row["x"])
        if cell != view().cell:
            change_view(cell=cell, lead=int(row["lead"]))
            st.session_state["spotted"] = st.session_state.get("spotted", 0) + 1
            st.rerun(scope="fragment")
    return spots


def _list_key(spots: pd.DataFrame, made: np.datetime64) -> str:
    """Returns the key of the list; with another key the browser forgets selection and scrolling.

    It changes with the list, and when a cell is chosen outside the list.
    """
    elsewhere = cell_changes() - int(st.session_state.get("spotted", 0))
    rows = zlib.crc32(spots[["y", "x", "lead"]].to_numpy().tobytes())
    parts = (view().city, made, view().channel, f"{view().threshold:g}", rows, elsewhere)
    return "-".join(["spots", *(str(part) for part in parts)])


def _explain_none(typical: xr.Dataset, trust: Trust) -> None:
    """Says that there is no hot spot, and whether that is good news."""
    none = "None: no cell is above the 95th percentile of this weekday's slots, or a threshold."
    if not np.isfinite(typical["high"].values).any():
        st.info("Typical flow needs four weeks of history; no cell is above a threshold.")
    elif any(banner.level == "error" for banner in trust.banners):
        st.info(f"{none} But forecasts are not reliable now, see above.")
    elif not trust.version:
        hint = "" if view().threshold else " Set a threshold to list the busiest cells."
        st.info(f"None, but a baseline stands in, which can miss unusual flow.{hint}")
    else:
        st.success(none)
