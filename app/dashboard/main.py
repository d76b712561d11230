"""What each session of the dashboard draws: sign-in, navigation, and the page of the view."""

import importlib.util
import logging
import os

import numpy as np
import streamlit as st
from matplotlib import colormaps
from PIL import Image

from app.charts.maps import COLORS
from app.cli.dashboard import REFRESH, REPLAYED
from app.dashboard import cached
from app.dashboard.banners import leave_unknown_time
from app.dashboard.markdown import literal
from app.dashboard.pages import PAGES
from app.dashboard.pages.now import SECONDS_PER_STEP
from app.dashboard.url import parse
from app.dashboard.widgets import apply_widget, change_view, view, write_query
from data.city import City
from data.errors import FlowcastError
from data.flow import CHANNELS
from data.paths import secrets_file

# An image of our own: the browser loads Streamlit's named icons from another host.
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
    """Draws the page of the URL."""
    st.set_page_config("flowcast", ICON, layout="wide")
    if not _signed_in():
        return
    every = float(os.environ.get(REFRESH, "60"))
    try:
        cities, wrong = _open_cities()
    except FlowcastError as error:
        st.session_state["looked"] = True
        st.fragment(_retry, run_every=every, key="error")(str(error))
        return
    notes = _follow_url({name: one.grid for name, one in cities.items()}, wrong)
    st.html(STYLE)
    _header(cities)
    for note in (*notes, *(wrong.values() if view().page == "archive" else ())):
        st.warning(literal(note))
    playing = st.session_state.get("playing", False) and view().page == "now"
    st.fragment(_body, run_every=SECONDS_PER_STEP if playing else every, key="body")(cities)


def _open_cities() -> tuple[dict[str, City], dict[str, str]]:
    """Returns the cities by name, and the errors in the TOML files of others.

    Raises:
        FlowcastError: the store cannot be opened, or there is no city.
    """
    cached.store()
    cities, wrong = cached.cities()
    if not cities:
        raise FlowcastError(f"there is no city; {'; '.join(wrong.values()) or 'add a TOML file'}")
    return cities, wrong


def _retry(message: str) -> None:
    """Shows an error, and draws the page once the store can be opened."""
    if not st.session_state.pop("looked", False):
        try:
            _open_cities()
        except FlowcastError as error:
            message = str(error)
        else:
            st.rerun(scope="app")
    _show_error(message)


def _signed_in() -> bool:
    """Returns whether the session may see pages: always, where no sign-in is set up."""
    path = secrets_file()
    try:
        required = "auth" in st.secrets
    except FileNotFoundError:
        if path.exists():  # better no page than a page for everyone
            st.error(f"{literal(path)} cannot be read; mend it, or remove it to show pages to all")
            return False
        return True
    if not required or getattr(st.user, "is_logged_in", False):
        return True
    if importlib.util.find_spec("authlib") is None:
        st.error("Sign-in is set up, but not installed: pip install 'flowcast\\[signin\\]'")
        return False
    st.title("flowcast")
    st.write("Sign in to see the forecasts.")
    st.button("Sign in", on_click=st.login, type="primary")
    return False


def _follow_url(grids: dict[str, tuple[int, int]], wrong: dict[str, str]) -> tuple[str, ...]:
    """Makes the view that of the URL, unless this session wrote the URL; returns what is wrong in it.

    Args:
        grids: rows and columns of the cities by name.
        wrong: errors in the TOML files of other cities, by name.
    """
    query = {name: str(value) for name, value in st.query_params.to_dict().items()}
    if query == st.session_state.get("written") and view().city in grids:
        return tuple(st.session_state.get("notes", ()))
    found, notes = parse(query, grids, PAGES)
    if (name := query.get("city", "")) in wrong:
        notes += (wrong[name],)
    st.session_state["view"] = found
    st.session_state["notes"] = notes
    write_query()
    return notes


def _header(cities: dict[str, City]) -> None:
    """Draws the choice of city, page and channel."""
    for key in ("city", "page", "channel"):
        st.session_state[key] = getattr(view(), key)
    columns = st.columns([1.25, 3.05, 1.15, 0.75], vertical_alignment="bottom")
    titles = [one.title for one in cities.values()]
    columns[0].selectbox(
        "City",
        options=list(cities),
        # Streamlit takes options with the same label for one.
        format_func=lambda name: (
            cities[name].title
            if titles.count(cities[name].title) == 1
            else f"{cities[name].title}, {name}"
        ),
        key="city",
        on_change=_change_city,
    )
    columns[1].segmented_control(
        "Page",
        options=list(PAGES),
        format_func=lambda name: PAGES[name].title,
        key="page",
        required=True,
        on_change=apply_widget,
        args=("page", "page"),
    )
    if not PAGES[view().page].has_map:
        return
    columns[2].segmented_control(
        "Flow",
        options=list(CHANNELS),
        key="channel",
        required=True,
        on_change=apply_widget,
        args=("channel", "channel"),
        help="inflow: vehicles that enter a cell in a step; outflow: vehicles that leave it",
    )
    if cities[view().city].bbox is not None:
        st.session_state["earth"] = view().earth
        columns[3].toggle(
            "On earth",
            key="earth",
            on_change=apply_widget,
            args=("earth", "earth"),
            help="Draw the cells by longitude and latitude.",
        )


def _change_city() -> None:
    """Shows another city, without the cell and the time of the former one."""
    change_view(city=st.session_state["city"], cell=None, time=None, lead=1)


def _body(cities: dict[str, City]) -> None:
    """Draws the page; runs again at each refresh, and when a widget in it is used."""
    st.session_state["notes"] = ()
    city, page = cities[view().city], PAGES[view().page]
    try:
        if cached.cities()[0] != cities:  # one was added, or its TOML changed
            st.rerun(scope="app")
        st.title(f"{literal(city.title)}: {page.title.lower()}", anchor=False)
        replayed = "; replayed: the end of the newest slot is taken as the present time"
        st.caption(
            f"Times in {literal(city.timezone)}{replayed if os.environ.get(REPLAYED) else ''}."
        )
        if view().earth and page.has_map and city.bbox is not None:
            _, wrong_overlay = cached.overlay(city)
            if wrong_overlay:
                st.warning(literal(wrong_overlay))
        leave_unknown_time(city)
        page.draw(city)
    except FlowcastError as error:
        _show_error(str(error))
    except Exception:  # a bug: its traceback belongs in the log, not on the page
        logging.exception("page %s of %s", view().page, city.name)
        _show_error("This page cannot be drawn because of a bug in flowcast; see the log.")


def _show_error(message: str) -> None:
    st.error(literal(message))
    st.caption("The page tries again by itself each minute. To see what is wrong on the host:")
    st.code("forecast doctor", language=None)
