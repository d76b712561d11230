"""The pages by Streamlit's own AppTest, on a store that was lived in and on ones that are broken."""

import json
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st_
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from app.dashboard import REPLAYED, reading
from app.dashboard.parts import JOINER, plain
from app.dashboard.view import PAGES
from data.city import load_city
from data.clock import local
from data.home import home
from data.store import Source, Store
from pipelines.replay import town
from pipelines.step import step

SCRIPT = Path(__file__).parents[3] / "app" / "dashboard" / "main.py"


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test reads its own store."""
    monkeypatch.setitem(
        sys.modules, "__main__", sys.modules["__main__"]
    )  # AppTest puts its own there
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv(REPLAYED, "1")


def shown(**query: str) -> AppTest:
    """The page of a URL."""
    test = AppTest.from_file(str(SCRIPT), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    return test.run()


def words(test: AppTest) -> str:
    """All that a page says."""
    kinds = ("title", "markdown", "caption", "info", "warning", "error", "success", "code")
    return "\n".join(str(one.value) for kind in kinds for one in test.get(kind))


@pytest.mark.parametrize("page", [*PAGES])
def test_every_page_is_drawn_without_an_exception(lived_in: Path, page: str) -> None:
    test = shown(city="small-live", page=page, y="2", x="3")
    assert not test.exception
    assert not test.error
    assert test.title[0].value == f"{plain('Small town')}: {PAGES[page].lower()}"


def test_either_database_shows_the_same_pages(lived_in_store: Store) -> None:
    for page in PAGES:
        test = shown(city="small-live", page=page, y="2", x="3")
        assert not test.exception
        assert not test.error
        assert "Times in America/New" in words(test)


def test_a_city_that_is_added_while_a_page_is_open_can_be_chosen(lived_in: Path) -> None:
    test = shown(city="small-live")
    assert "Just added" not in test.selectbox(key="city").options
    toml = (lived_in / "cities" / "small.toml").read_text()
    (lived_in / "cities" / "added.toml").write_text(toml.replace("Small town", "Just added"))
    st.cache_data.clear()  # as half a minute does
    test.run()
    assert "Just added" in test.selectbox(key="city").options
    test.selectbox(key="city").select("added").run()
    assert not test.exception
    assert "forecast ingest --city added PATH" in words(test)


def test_the_strip_says_how_far_to_trust_what_is_shown(lived_in: Path) -> None:
    said = words(shown(city="small-live"))
    version = Store().champion(load_city("small-live"))
    assert version is None or plain(version) in said
    for title in ("Newest slot", "Input", "Model", "Skill, last 7 days", "Drift"):
        assert f"**{title}**" in said
    assert "just over" in said
    assert "none missing" in said


def test_data_that_no_longer_come_are_told_above_all(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(REPLAYED)
    test = shown(city="small-live")
    assert "The data are stale" in test.error[0].value


def test_what_is_chosen_stands_in_the_url(lived_in: Path) -> None:
    test = shown(city="small-live", page="cell")
    assert "Click on a cell" in words(test)
    test.number_input(key="row").set_value(2).run()
    test.number_input(key="column").set_value(4).run()
    query = {name: str(value) for name, value in test.query_params.items()}
    assert (query["y"], query["x"]) == ("2", "4")
    assert "Inflow of row 2, column 4: history" in words(test)
    again = shown(**query)
    assert words(again) == words(test)


def test_the_horizon_moves_the_forecast_alone(lived_in: Path) -> None:
    test = shown(city="small-live", lead="1")
    before = words(test)
    test.select_slider(key="lead").set_value(3).run()
    after = words(test)
    assert test.query_params["lead"] == "3"
    observed = [line for line in before.splitlines() if "**Observed" in line]
    assert observed
    assert observed == [line for line in after.splitlines() if "**Observed" in line]
    forecast = [line for line in before.splitlines() if "**Forecast" in line]
    assert forecast != [line for line in after.splitlines() if "**Forecast" in line]


def test_a_wrong_link_shows_the_default_and_says_so(lived_in: Path) -> None:
    test = shown(city="small-live", page="<b>nowhere</b>", lead="-3")
    assert test.title[0].value.endswith("now and next")
    told = " ".join(one.value for one in test.warning)
    assert plain("page=<b>nowhere</b>") in told
    assert plain("lead=-3") in told


@pytest.mark.parametrize("page", [*PAGES])
def test_a_city_without_flow_says_how_to_take_files_in(flowcast_home: Path, page: str) -> None:
    test = shown(city="bj", page=page)
    assert not test.exception
    if page != "runs":
        assert "forecast ingest --city bj PATH" in words(test)


@pytest.mark.parametrize("page", [*PAGES])
def test_a_city_with_one_slot_and_no_champion_is_shown(small_home: Path, page: str) -> None:
    store, source = Store(), load_city("small")
    city = town(source, "one")
    flow = store.flow(source)[:1]
    flow.attrs["city"] = "one"
    store.add_flow(city, flow, source=Source("one slot", ""))
    test = shown(city="one", page=page)
    assert not test.exception
    if page in ("now", "cell", "quality"):
        assert "forecast --city one --horizon 4" in words(test)
    step(store, city, np.datetime64("2026-01-01", "s"), horizon=2)
    st.cache_data.clear()
    test = shown(city="one", page=page, y="1", x="1")
    assert not test.exception
    if page == "now":
        assert "A baseline stands in" in words(test)


def test_a_store_that_is_no_database_is_a_sentence(flowcast_home: Path) -> None:
    flowcast_home.mkdir(parents=True)
    (flowcast_home / "flowcast.db").write_bytes(b"this is no database at all, by far" * 100)
    test = shown()
    assert not test.exception
    assert test.error
    assert "forecast doctor" in words(test)


def test_a_store_that_is_held_when_the_dashboard_starts_is_told_within_seconds(
    lived_in: Path,
) -> None:
    connection = sqlite3.connect(lived_in / "flowcast.db", isolation_level=None)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        begun = time.monotonic()
        test = shown(city="small-live")
        assert time.monotonic() - begun < 10
        assert not test.exception
        assert "another process has held" in test.error[0].value
        assert "tries again by itself" in words(test)
    finally:
        connection.rollback()
        connection.close()
    assert "Newest slot" in words(test.run())


def test_a_store_that_is_locked_is_a_sentence_or_a_page(lived_in: Path) -> None:
    connection = sqlite3.connect(lived_in / "flowcast.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        test = shown(city="small-live")
        assert not test.exception  # readers of a write-ahead log wait for nobody
    finally:
        connection.rollback()
        connection.close()


def test_markup_in_a_title_is_shown_as_it_stands(lived_in: Path) -> None:
    path = home() / "cities" / "small-live.toml"
    wild = "**x** [a](javascript:alert(1)) :red[r] $x$ <img src=x>"
    path.write_text(path.read_text().replace("Small town", wild))
    test = shown(city="small-live")
    assert not test.exception
    assert test.title[0].value == f"{plain(wild)}: now and next"
    assert "\\[a\\]\\(javascript" in test.title[0].value


def test_sign_in_is_asked_where_it_is_set_up_and_no_page_is_shown(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = AppTest.from_file(str(SCRIPT), default_timeout=60)
    test.secrets["auth"] = {"redirect_uri": "http://localhost:8501/oauth2callback"}
    test.run()
    assert "Sign-in is set up" in words(test) or "Sign in" in words(test)
    assert "Newest slot" not in words(test)


def test_a_sign_in_that_cannot_be_read_shows_nothing(lived_in: Path) -> None:
    (lived_in / "secrets.toml").write_text("auth = [not toml")
    test = shown(city="small-live")
    assert "cannot be read" in test.error[0].value
    assert "Newest slot" not in words(test)


def test_a_store_that_is_gone_or_put_in_the_place_of_another_is_seen(lived_in: Path) -> None:
    test = shown(city="small-live")
    path = lived_in / "flowcast.db"
    Store().close()
    kept = lived_in / "kept"
    kept.mkdir()
    for file in lived_in.glob("flowcast.db*"):
        file.rename(kept / file.name)
    assert "is gone" in test.run().error[0].value
    assert not path.exists()
    Store().close()  # another one, without any flow
    st.cache_data.clear()
    assert "forecast ingest --city small-live PATH" in words(test.run())


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Nonsense"}}]}',
        '{"type": "FeatureCollection", "features": [{"geometry": null}]}',
        "\x00",
    ],
)
def test_an_overlay_that_cannot_be_drawn_is_a_sentence(lived_in: Path, content: str) -> None:
    (lived_in / "cities" / "small-live.geojson").write_text(content)
    test = shown(city="small-live", page="archive")
    assert not test.exception
    assert any("geojson" in one.value for one in test.warning)


def test_a_past_forecast_is_told_as_it_stood_then(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    made = np.sort([one["init_time"].values[0] for one in _forecasts(store)])[5]
    test = shown(city="small-live", time=f"{made}Z")
    said = words(test)
    assert "before the newest slot" not in said
    newest = f"{local(made, city.timezone)[0]:%a %d %b %H:%M}"
    assert f"**Newest slot**  \n{plain(newest)}  \njust over" in said


def _forecasts(store: Store) -> list[xr.DataArray]:
    span = store.span(load_city("small-live"))
    assert span is not None
    return list(store.forecasts(load_city("small-live"), span[0], span[1]))


def test_the_colours_follow_what_is_taken_in_later_and_stay_the_same_within_a_week(
    lived_in: Path,
) -> None:
    store, city = Store(), load_city("small-live")
    flow = store.flow(city)
    before = reading.top(city)
    newest = flow[-1:].assign_coords(time=flow["time"][-1:] + city.step)
    store.add_flow(city, newest * 100, source=Source("a busy hour", ""))
    assert reading.top(city) == before
    earlier = flow[:24].assign_coords(time=flow["time"][:24] - 7 * 24 * city.step)
    store.add_flow(city, earlier * 100, source=Source("files of the week before", ""))
    assert reading.top(city) > 10 * before


def test_now_and_how_good_draw_by_the_same_scale(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: dict[str, set[float]] = {}
    for page in ("now", "cell", "quality"):
        test = shown(city="small-live", page=page, y="2", x="3")
        specs = [one.proto.spec for one in test.get("arrow_vega_lite_chart")]
        scales = [json.loads(one)["encoding"].get("color", {}) for one in specs if "rect" in one]
        domains = [one["condition"]["scale"]["domain"] for one in scales if "condition" in one]
        ends[page] = {domain[1] for domain in domains if domain[0] == 0 and domain[1] > 20}
    assert ends["now"] == ends["cell"]
    assert ends["now"] <= ends["quality"]


def test_a_trouble_ends_by_itself_once_the_store_is_well(lived_in: Path) -> None:
    path = lived_in / "flowcast.db"
    kept = path.read_bytes()
    path.write_bytes(b"this is no database at all, by far" * 100)
    test = shown(city="small-live")
    assert "is not a flowcast database" in test.error[0].value
    assert "looked" not in test.session_state  # what is drawn next looks by itself
    path.write_bytes(kept)
    assert "Newest slot" in words(test.run())


@pytest.mark.parametrize("stale", [False, True])
def test_that_no_cell_is_a_hot_spot_is_no_good_news_of_a_baseline_or_of_stale_data(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    store, city = Store(), load_city("small-live")
    newest = store.forecast(city)
    assert newest is not None
    made = (newest * 0).assign_attrs(
        newest.attrs if stale else newest.attrs | {"model_version": ""}
    )
    store.add_forecast(city, made)
    if stale:
        monkeypatch.delenv(REPLAYED)
    test = shown(city="small-live")
    assert not test.success
    told = " ".join(one.value for one in test.info)
    assert ("cannot be relied on" if stale else "it cannot tell hot spots") in told


def test_a_quiet_city_with_a_model_is_good_news(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    newest = store.forecast(city)
    assert newest is not None
    store.add_forecast(city, (newest * 0).assign_attrs(newest.attrs | {"model_version": "v1"}))
    assert "None: no cell passes" in shown(city="small-live").success[0].value


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("to make one: forecast step --city bj-2", "`forecast step --city bj-2`"),
        ("run: forecast ingest --city bj PATH, or drop files", "`forecast ingest --city bj PATH`"),
        ("(to train: forecast train --city bj)", "`forecast train --city bj`"),
        ("to start it: forecast schedule.", "`forecast schedule`"),
        ("forecast --city bj --horizon 4; then wait", "`forecast --city bj --horizon 4`"),
    ],
)
def test_a_command_in_a_sentence_can_be_copied(text: str, drawn: str) -> None:
    assert drawn in plain(text)
    assert JOINER not in plain(text)


@given(st_.text("`*_[]()<>:$-=ab \\/.htpw", max_size=30))
def test_no_text_behind_a_command_leads_out_of_its_code(tail: str) -> None:
    tokens = MarkdownIt().parse(f"**{plain('x forecast step ' + tail)}**")
    kinds = {child.type for one in tokens for child in one.children or ()}
    assert kinds <= {"strong_open", "strong_close", "text", "code_inline", "text_special"}


def test_half_a_command_is_none() -> None:
    assert "`" not in plain("x" * 280 + " forecast train --city a-long-name-of-a-city")


def test_a_link_to_a_city_whose_toml_is_broken_tells_what_is_wrong_in_it(lived_in: Path) -> None:
    (lived_in / "cities" / "broken.toml").write_text('timezone = "Nowhere/At_all"\nstep = "1h"')
    test = shown(city="broken")
    told = " ".join(one.value for one in test.warning)
    assert plain("the key 'grid' is missing") in told
    assert test.title[0].value.startswith("Small town")
