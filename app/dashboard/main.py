"""The script that Streamlit runs: who looks, at which city and page, and anew each minute."""

import importlib.util
import logging
import os

import numpy as np
import streamlit as st
from matplotlib import colormaps
from PIL import Image

from app.charts.maps import COLORS
from app.dashboard import REFRESH, REPLAYED, cached
from app.dashboard.markdown import plain
from app.dashboard.pages import cell, data, now, quality, runs
from app.dashboard.url import PAGES, parse
from app.dashboard.widgets import changed, go, view, write_query
from data.city import City
from data.errors import FlowcastError
from data.flow import CHANNELS
from data.paths import secrets_file

DRAW = {
    "now": now.page,
    "cell": cell.page,
    "quality": quality.page,
    "runs": runs.page,
    "archive": data.page,
}
BOTH = ("runs", "archive")
"""Pages that show in- and outflow alike, and no map."""
# A picture of our own: Streamlit's named ones come from a host elsewhere.
ICON = Image.fromarray(
    colormaps[COLORS](np.array([[0.1, 0.5], [0.75, 0.95]]).repeat(8, 0).repeat(8, 1), bytes=True)
)
STYLE = """<style>
.block-container {padding-top: 2.2rem; padding-bottom: 2rem}
h1 {font-size: 1.6rem !important; padding: 0 !important}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {
    color: #4a4a4a !important; opacity: 1 !important}
[data-testid="stDateInput"] [role="spinbutton"] {
    display: inline-block; min-width: 24px; min-height: 24px; text-align: center}
</style>"""


def main() -> None:
    """Draws the page that the URL asks for."""
    st.set_page_config("flowcast", ICON, layout="wide")
    if not _signed_in():
        return
    every = float(os.environ.get(REFRESH, "60"))
    try:
        known, wrong = _look()
    except FlowcastError as error:
        st.session_state["looked"] = True
        st.fragment(_look_again, run_every=every, key="trouble")(str(error))
        return
    notes = _follow_url({name: one.grid for name, one in known.items()}, wrong)
    st.html(STYLE)
    _header(known)
    for note in (*notes, *(wrong.values() if view().page == "archive" else ())):
        st.warning(plain(note))
    playing = st.session_state.get("playing", False) and view().page == "now"
    st.fragment(_body, run_every=now.PAUSE if playing else every, key="body")(known)


def _look() -> tuple[dict[str, City], dict[str, str]]:
    """Returns the cities by name, and what is wrong with others.

    Raises:
        FlowcastError: the store cannot be opened, or no city is described.
    """
    cached.store()
    known, wrong = cached.cities()
    if not known:
        told = "; ".join(wrong.values()) or "there is no TOML of any"
        raise FlowcastError(f"no city is described; mend its TOML: {told}")
    return known, wrong


def _look_again(text: str) -> None:
    """Says what is wrong, and draws the page once it is well."""
    if not st.session_state.pop("looked", False):
        try:
            _look()
        except FlowcastError as error:
            text = str(error)
        else:
            st.rerun(scope="app")
    _trouble(text)


def _signed_in() -> bool:
    """Returns whether pages may be shown: where no sign-in is set up, to all."""
    path = secrets_file()
    try:
        asked = "auth" in st.secrets
    except FileNotFoundError:
        if path.exists():  # who cannot be asked who they are sees nothing
            st.error(f"{plain(path)} cannot be read; mend it, or remove it to show pages to all")
            return False
        return True
    if not asked or getattr(st.user, "is_logged_in", False):
        return True
    if importlib.util.find_spec("authlib") is None:
        st.error("Sign-in is set up, but not installed: pip install 'flowcast\\[signin\\]'")
        return False
    st.title("flowcast")
    st.write("Sign in to see the forecasts.")
    st.button("Sign in", on_click=st.login, type="primary")
    return False


def _follow_url(grids: dict[str, tuple[int, int]], wrong: dict[str, str]) -> tuple[str, ...]:
    """Takes over what the URL asks for, unless this session itself wrote it; returns what is wrong.

    Args:
        grids: rows and columns of the cities by name.
        wrong: what is wrong with the TOML of others, by name.
    """
    asked = {name: str(value) for name, value in st.query_params.to_dict().items()}
    if asked == st.session_state.get("written") and view().city in grids:
        return tuple(st.session_state.get("notes", ()))
    found, notes = parse(asked, grids)
    if (name := asked.get("city", "")) in wrong:
        notes += (wrong[name],)
    st.session_state["view"] = found
    st.session_state["notes"] = notes
    write_query()
    return notes


def _header(known: dict[str, City]) -> None:
    """Draws the city, the page and the channel."""
    st.session_state["city"] = view().city
    st.session_state["page"] = view().page
    st.session_state["channel"] = view().channel
    columns = st.columns([1.25, 3.05, 1.15, 0.75], vertical_alignment="bottom")
    titles = [one.title for one in known.values()]
    columns[0].selectbox(
        "City",
        options=list(known),
        # Streamlit tells options apart by what they look like.
        format_func=lambda name: (
            known[name].title
            if titles.count(known[name].title) == 1
            else f"{known[name].title}, {name}"
        ),
        key="city",
        on_change=_other_city,
    )
    columns[1].segmented_control(
        "Page",
        options=list(PAGES),
        format_func=lambda name: PAGES[name],
        key="page",
        required=True,
        on_change=changed,
        args=("page", "page"),
    )
    if view().page not in BOTH:
        columns[2].segmented_control(
            "Flow",
            options=list(CHANNELS),
            key="channel",
            required=True,
            on_change=changed,
            args=("channel", "channel"),
            help="inflow: vehicles that come into a cell in a step; outflow: those that leave it",
        )
    if view().page not in BOTH and known[view().city].bbox is not None:
        st.session_state["earth"] = view().earth
        columns[3].toggle(
            "On earth",
            key="earth",
            on_change=changed,
            args=("earth", "earth"),
            help="Cells in their place in degrees.",
        )


def _other_city() -> None:
    """Shows another city, of which cell and time say nothing."""
    go(city=st.session_state["city"], cell=None, time=None, lead=1)


def _body(known: dict[str, City]) -> None:
    """Draws the page; it is drawn anew each minute, and when something in it is used."""
    st.session_state["notes"] = ()
    city = known[view().city]
    try:
        if cached.cities()[0] != known:  # one was added, or its TOML changed
            st.rerun(scope="app")
        st.title(f"{plain(city.title)}: {PAGES[view().page].lower()}", anchor=False)
        played = "; played back: the end of the newest slot is taken as the present"
        st.caption(f"Times in {plain(city.timezone)}{played if os.environ.get(REPLAYED) else ''}.")
        if view().earth and view().page not in BOTH and city.bbox is not None:
            _, wrong_overlay = cached.overlay(city)
            if wrong_overlay:
                st.warning(plain(wrong_overlay))
        now.leave_unknown_time(city)
        DRAW[view().page](city)
    except FlowcastError as error:
        _trouble(str(error))
    except Exception:  # a bug of ours: its traceback is for the log, not for an operator
        logging.exception("page %s of %s", view().page, city.name)
        _trouble("This page cannot be drawn, by a bug of flowcast; its log tells more.")


def _trouble(text: str) -> None:
    """Says what is wrong, and that it is tried again."""
    st.error(plain(text))
    st.caption("This page tries again by itself each minute. To see what is wrong on the host:")
    st.code("forecast doctor", language=None)


main()
