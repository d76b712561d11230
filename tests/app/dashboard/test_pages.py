"""The pages by Streamlit's own AppTest, on a store that was lived in and on ones that are broken."""

import json
import re
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st_
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest

from app.cli.dashboard import REPLAYED
from app.dashboard import cached
from app.dashboard.cached import PATIENCE
from app.dashboard.markdown import JOINER, literal
from app.dashboard.pages import PAGES, Page, cell
from app.dashboard.url import View
from data.city import load_city
from data.clock import local
from data.paths import city_file
from data.store.ingests import Source
from data.store.promotions import PROMOTED, REFUSED
from data.store.store import Store
from pipelines.ingest.replay import target_city
from pipelines.operate.update import update

SCRIPT = Path(__file__).parents[3] / "app" / "streamlit_app.py"


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
    test = AppTest.from_file(str(SCRIPT), default_timeout=600)
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
    assert test.title[0].value == f"{literal('Small town')}: {PAGES[page].title.lower()}"


def test_a_new_page_is_an_entry_of_pages_found_in_navigation_and_by_its_url(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page("Notes", lambda city: st.markdown(f"notes of {city.name}"), has_map=False)
    monkeypatch.setitem(PAGES, "notes", page)
    test = shown(city="small-live", page="notes")
    assert test.title[0].value.endswith(": notes")
    assert "notes of small" in words(test)
    assert "Notes" in test.segmented_control(key="page").options
    other = shown(city="small-live", page="runs")
    other.segmented_control(key="page").select("notes").run()
    assert other.query_params["page"] == "notes"
    assert "notes of small" in words(other)


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
    version = Store().promotions.champion(load_city("small-live"))
    assert version is None or literal(version) in said
    for title in ("Newest slot", "Input", "Model", "Skill, last 7 days", "Drift"):
        assert f"**{title}**" in said
    assert "just ended" in said
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
    assert literal("page=<b>nowhere</b>") in told
    assert literal("lead=-3") in told


@pytest.mark.parametrize("page", [*PAGES])
def test_a_city_without_flow_says_how_to_take_files_in(flowcast_home: Path, page: str) -> None:
    test = shown(city="bj", page=page)
    assert not test.exception
    if page != "runs":
        assert "forecast ingest --city bj PATH" in words(test)


@pytest.mark.parametrize("page", [*PAGES])
def test_a_city_with_one_slot_and_no_champion_is_shown(small_home: Path, page: str) -> None:
    store, source = Store(), load_city("small")
    city = target_city(source, "one")
    flow = store.flow.read(source)[:1]
    flow.attrs["city"] = "one"
    store.flow.add(city, flow, source=Source("one slot", ""))
    test = shown(city="one", page=page)
    assert not test.exception
    if page in ("now", "cell", "quality"):
        assert "forecast --city one --horizon 4" in words(test)
    update(store, city, np.datetime64("2026-01-01", "s"), horizon=2)
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
        test = shown(city="small-live")
        assert not test.exception
        assert PATIENCE <= 5  # seconds
        assert re.search(f"another process has held .* for {PATIENCE:g} s", test.error[0].value)
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
    path = city_file("small-live")
    wild = "**x** [a](javascript:alert(1)) :red[r] $x$ <img src=x>"
    turned = f"{wild}\u202e"  # from which on all would be read from right to left
    path.write_text(path.read_text().replace("Small town", turned), encoding="utf-8")
    test = shown(city="small-live")
    assert not test.exception
    assert test.title[0].value == f"{literal(wild)}: now and next"
    assert "\\[a\\]\\(javascript" in test.title[0].value


def test_sign_in_is_asked_where_it_is_set_up_and_no_page_is_shown(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = AppTest.from_file(str(SCRIPT), default_timeout=600)
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


POINT = (
    '{{"type": "FeatureCollection", "features": [{{"type": "Feature", "geometry": '
    '{{"type": "Point", "coordinates": [{}]}}}}]}}'
)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        '{"type": "FeatureCollection", "features": [{"geometry": {"type": "Nonsense"}}]}',
        '{"type": "FeatureCollection", "features": [{}]}',
        POINT.format("NaN, 1"),
        POINT.format("1e999, 1"),
        POINT.format("1" + "0" * 400 + ", 1"),
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
    newest = f"{local(made, city.timezone)[0]:%a %d %b %Y %H:%M}"
    assert f"**Newest slot**  \n{literal(newest)}  \njust ended" in said


def _forecasts(store: Store) -> list[xr.DataArray]:
    span = store.flow.span(load_city("small-live"))
    assert span is not None
    return list(store.forecasts.between(load_city("small-live"), span[0], span[1]))


def test_the_colors_follow_what_is_taken_in_later_and_stay_the_same_within_a_week(
    lived_in: Path,
) -> None:
    store, city = Store(), load_city("small-live")
    flow = store.flow.read(city)
    before = cached.top(city)
    newest = flow[-1:].assign_coords(time=flow["time"][-1:] + city.step)
    store.flow.add(city, newest * 100, source=Source("a busy hour", ""))
    assert cached.top(city) == before
    earlier = flow[:24].assign_coords(time=flow["time"][:24] - 7 * 24 * city.step)
    store.flow.add(city, earlier * 100, source=Source("files of the week before", ""))
    assert cached.top(city) > 10 * before


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
    newest = store.forecasts.newest(city)
    assert newest is not None
    made = (newest * 0).assign_attrs(
        newest.attrs if stale else newest.attrs | {"model_version": ""}
    )
    store.forecasts.add(city, made)
    if stale:
        monkeypatch.delenv(REPLAYED)
    test = shown(city="small-live")
    assert not test.success
    told = " ".join(one.value for one in test.info)
    assert ("are not reliable now" if stale else "which can miss unusual flow") in told


def test_a_quiet_city_with_a_model_is_good_news(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    newest = store.forecasts.newest(city)
    assert newest is not None
    store.forecasts.add(city, (newest * 0).assign_attrs(newest.attrs | {"model_version": "v1"}))
    assert "None: no cell is above" in shown(city="small-live").success[0].value


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
    assert drawn in literal(text)
    assert JOINER not in literal(text)


@given(st_.text("`*_[]()<>:$-=ab \\/.htpw", max_size=30))
def test_no_text_behind_a_command_leads_out_of_its_code(tail: str) -> None:
    tokens = MarkdownIt().parse(f"**{literal('x forecast step ' + tail)}**")
    kinds = {child.type for one in tokens for child in one.children or ()}
    assert kinds <= {"strong_open", "strong_close", "text", "code_inline", "text_special"}


def test_half_a_command_is_none() -> None:
    assert "`" not in literal("x" * 280 + " forecast train --city a-long-name-of-a-city")


def test_a_link_to_a_city_whose_toml_is_broken_tells_what_is_wrong_in_it(lived_in: Path) -> None:
    (lived_in / "cities" / "broken.toml").write_text('timezone = "Nowhere/At_all"\nstep = "1h"')
    test = shown(city="broken")
    told = " ".join(one.value for one in test.warning)
    assert literal("the key 'grid' is missing") in told
    assert test.title[0].value.startswith("Small town")


@pytest.mark.parametrize("page", ["now", "cell", "quality"])
def test_a_lead_that_a_forecast_lacks_is_told_and_its_last_one_shown(
    lived_in: Path, page: str
) -> None:
    test = shown(city="small-live", page=page, lead="1008", y="1", x="1")
    assert any("has 3 steps, not 1008" in one.value for one in test.info)
    assert test.query_params["lead"] == "3"


@pytest.mark.parametrize("page", [*PAGES])
def test_a_time_without_a_forecast_is_told_and_the_newest_shown(lived_in: Path, page: str) -> None:
    test = shown(city="small-live", page=page, time="2025-03-05T08:00:00Z")
    assert any("2025\\-03\\-05 03\\:00; the newest is shown" in one.value for one in test.warning)
    assert "time" not in test.query_params
    newest = shown(city="small-live", page=page)
    assert [one.value for one in test.subheader] == [one.value for one in newest.subheader]
    assert len(test.get("arrow_vega_lite_chart")) == len(newest.get("arrow_vega_lite_chart"))


def test_a_time_of_a_city_without_any_forecast_promises_no_newest_one(lived_in: Path) -> None:
    test = shown(city="small", time="2025-03-05T08:00:00Z")
    assert test.warning[0].value.endswith("03\\:00.")
    assert "forecast --city small --horizon 4" in words(test)


def test_days_begin_at_the_first_forecast(lived_in: Path) -> None:
    first = Store().forecasts.first(load_city("small-live"))
    assert first is not None
    test = shown(city="small-live", page="quality")
    assert test.date_input(key="day").min == local(first, "America/New_York")[0].date()
    assert Store().forecasts.first(load_city("bj")) is None


def test_a_moment_can_be_kept_so_that_its_link_does_not_move_on(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    newest = store.forecasts.newest(city)
    assert newest is not None
    test = shown(city="small-live")
    keep = next(one for one in test.button if one.label == "Pin this forecast")
    keep.click().run()
    assert test.query_params["time"] == f"{newest['init_time'].values[0]}Z"
    assert any("still the newest; it stays" in one.value for one in test.info)
    assert not [one for one in test.button if one.label == "Pin this forecast"]


def test_a_kept_moment_that_is_the_newest_is_judged_as_of_now(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = Store().forecasts.newest(load_city("small-live"))
    assert newest is not None
    monkeypatch.delenv(REPLAYED)
    test = shown(city="small-live", time=f"{newest['init_time'].values[0]}Z")
    assert "The data are stale" in test.error[0].value


def test_hot_spots_are_framed_on_the_maps(lived_in: Path) -> None:
    test = shown(city="small-live", threshold="1")
    spots = next(one.value for one in test.dataframe if "why" in one.value)
    drawn = [one for one in test.get("vega_lite_chart") if one is not None]
    assert len(spots) and len(drawn) == 3
    assert "thin frames: hot spots" in words(test)


def test_a_feature_without_a_place_is_left_out_and_the_others_are_drawn(lived_in: Path) -> None:
    content = json.loads(POINT.format("-74, 40.7"))
    content["features"].append({"type": "Feature", "geometry": None, "properties": {}})
    (lived_in / "cities" / "small-live.geojson").write_text(json.dumps(content))
    drawn, wrong = cached.overlay(load_city("small-live"))
    assert wrong == ""
    assert drawn is not None
    assert drawn["features"] == content["features"][:1]


def test_a_wrong_overlay_is_told_where_the_map_is_on_earth(lived_in: Path) -> None:
    toml = lived_in / "cities" / "small-live.toml"
    toml.write_text(toml.read_text() + "bbox = [-74.02, 40.70, -73.87, 40.85]\n")
    (lived_in / "cities" / "small-live.geojson").write_text("{")
    assert any("geojson" in one.value for one in shown(city="small-live", earth="yes").warning)
    assert not any("geojson" in one.value for one in shown(city="small-live").warning)


def test_lines_break_where_slots_are_missing_whatever_they_show(lived_in: Path) -> None:
    city = load_city("small-live")
    times = np.datetime64("2025-03-10T00:00", "s") + np.array([0, 1, 4]) * city.step
    values = np.array([1.0, 2.0, 5.0])
    rows = cell._rows(city, "forecast", times, values, np.stack([values - 1, values + 1]))
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(rows["flow"], [1, 2, *nothing, 5])
    np.testing.assert_array_equal(rows["lower"], [0, 1, *nothing, 4])
    np.testing.assert_array_equal(rows["upper"], [2, 3, *nothing, 6])
    assert rows["at"].iloc[2] == "2025-03-09 22:00 -0400"
    assert cell._rows(city, "observed", times[:0], values[:0]).empty


def test_promotions_gates_and_files_stand_among_the_runs(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    at = np.datetime64("2025-04-01T06:00", "s")
    gates = {"overall": {"passed": False, "value": 9.5, "sentence": "9.50, more than 9.00"}}
    for hour, (version, verdict) in enumerate(
        [("v1", PROMOTED), ("v2", PROMOTED), ("v3", REFUSED)]
    ):
        store.promotions.decide(city, version, verdict, f"of {version}", at + 3600 * hour, gates)
    test = shown(city="small-live", page="runs")
    said = words(test)
    assert "forecast models promote --city small-live v1" in said
    assert "promote --city small-live v3" not in said
    tables = [one.value for one in test.dataframe]
    champions = next(one for one in tables if "champion from" in one)
    assert champions["version"].tolist() == ["v2", "v1"]
    found = [one for one in tables if "gate" in one]
    assert len(found) == 3
    assert found[0]["found"].tolist() == ["9.50, more than 9.00"]
    assert "Ingested files" in [one.value for one in test.subheader]


def test_the_figure_of_a_training_by_hand_stands_beside_its_version(lived_in: Path) -> None:
    city, at = load_city("small-live"), np.datetime64("2025-04-01T06:00", "s")
    metrics = {"candidate": {"all": 77.329}, "persistence": {"all": 99.0}}
    Store().promotions.decide(city, "v9", PROMOTED, "good", at, {"validation RMSE": metrics})
    test = shown(city="small-live", page="runs")
    versions = next(one.value for one in test.dataframe if "role" in one.value)
    assert versions.loc[versions["version"] == "v9", "RMSE"].tolist() == ["77.33"]


def test_a_cell_at_a_past_moment_says_so_and_leads_back(lived_in: Path) -> None:
    newest = Store().forecasts.newest(load_city("small-live"))
    assert newest is not None
    at = newest["init_time"].values[0] - np.timedelta64(3, "h")
    test = shown(city="small-live", page="cell", y="2", x="3", time=f"{at}Z")
    assert "not the newest" in words(test)
    back = next(one for one in test.button if one.label == "Back to the newest")
    assert "not the newest" not in words(back.click().run())


def test_without_a_previous_version_no_promotion_is_suggested(lived_in: Path) -> None:
    at = np.datetime64("2025-04-01T06:00", "s")
    Store().promotions.decide(load_city("small-live"), "v3", REFUSED, "too bad", at)
    said = words(shown(city="small-live", page="runs"))
    assert "forecast models show --city small-live v3" in said
    assert "models promote" not in said
    assert "models rollback" not in said


def test_one_missing_slot_and_where_files_lay_are_told_in_words(lived_in: Path) -> None:
    store, city = Store(), load_city("small-live")
    flow = store.flow.read(city)
    later = flow[-1:].assign_coords(time=flow["time"][-1:] + 2 * city.step)
    store.flow.add(city, later, source=Source(str(lived_in / "inbox" / "late.npz"), ""))
    store.ingests.add_refusal(
        city, Source("/else/bad.npz", ""), f"{lived_in}/inbox/bad.npz: is no file"
    )
    test = shown(city="small-live", page="archive")
    missing = next(one.value for one in test.dataframe if "slots" in one.value)
    assert missing.iloc[0].tolist() == ["2025-04-01 02:00", "2025-04-01 02:00", 1]
    files = next(one.value for one in test.dataframe if "repaired" in one.value)
    assert files["file"].tolist()[:2] == ["/else/bad.npz", "inbox/late.npz"]
    assert files["why refused"].tolist()[0] == "inbox/bad.npz: is no file"


def test_a_city_with_a_slot_a_day_is_told_in_words(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = np.timedelta64(86_400, "s")
    toml = (lived_in / "cities" / "small.toml").read_text()
    daily = toml.replace('"1h"', '"1d"').replace("Small town", "Daily town")
    (lived_in / "cities" / "daily.toml").write_text(daily)
    store, city = Store(), load_city("daily")
    flow = store.flow.read(load_city("small"))[:1]
    flow.attrs |= {"city": "daily", "step": 86_400}
    midnight = flow["time"].values[0]
    for number in range(40):
        one = flow.assign_coords(time=[midnight + number * day])
        store.flow.add(city, one, source=Source(str(number), ""))
    update(store, city, midnight + 40 * day, horizon=2)
    said = words(shown(city="daily"))
    assert "of the newest day" in said
    assert "one slot every day" in words(shown(city="daily", page="archive"))
    test = shown(city="daily", page="cell", y="1", x="1")
    assert not test.exception
    newest = store.forecasts.newest(city)
    assert newest is not None
    monkeypatch.setattr(cell, "view", lambda: View("daily"))
    rows = cell._history(city, newest, 1, 1)
    assert len(rows[rows["series"] == "observed"]) >= 28


def test_the_list_of_hot_spots_is_kept_when_a_cell_is_chosen_from_it(lived_in: Path) -> None:
    keys = []
    test = shown(city="small-live", threshold="1")
    keys.append(spots_of(test))
    test.session_state["spotted"], test.session_state["choices"] = 1, 1  # chosen from the list
    keys.append(spots_of(test.run()))
    test.session_state["choices"] = 2  # and on a map
    keys.append(spots_of(test.run()))
    test.number_input(key="threshold").set_value(2.0).run()
    keys.append(spots_of(test))
    test.segmented_control(key="channel").select("outflow").run()
    keys.append(spots_of(test))
    assert keys[0] == keys[1]
    assert len({*keys[1:]}) == 4


def spots_of(test: AppTest) -> str:
    """The identity of the list of hot spots, by which a browser knows it again."""
    return next(one.proto.id for one in test.dataframe if "why" in one.value)


def test_what_words_and_buttons_mean_is_told_beside_them(lived_in: Path) -> None:
    test = shown(city="small-live")
    assert "vehicles that enter a cell" in test.segmented_control(key="channel").help
    exports = [one.proto.popover.help for one in test.get("popover")]
    assert "As PNG, CSV, NetCDF: small-live-inflow-observed-2025-04-01T0100EDT" in exports
    assert len({*exports}) == len(exports)


def test_a_baseline_with_a_threshold_is_not_told_to_set_one(lived_in: Path) -> None:
    test = shown(city="small-live", threshold="1e6")
    said = " ".join(one.value for one in test.info)
    has_spots = any("why" in one.value for one in test.dataframe)
    assert has_spots or "a baseline stands in, which can miss unusual flow" in said
    assert "Set a threshold" not in said


def test_shares_are_written_alike_and_errors_say_of_what_they_are(lived_in: Path) -> None:
    test = shown(city="small-live", page="quality")
    assert "in- and outflow together" in test.subheader[0].value
    against = next(one.value for one in test.dataframe if "RMSE" in one.value)
    asked = next(one.proto.columns for one in test.dataframe if "RMSE" in one.value)
    own = {name: one for name, one in json.loads(asked).items() if "type_config" in one}
    formats = {name: one["type_config"]["format"] for name, one in own.items()}
    # Figures of a column have as many decimals, also where the last ones are zeros.
    assert formats == {"RMSE": "%.2f", "MAE": "%.2f", "bias": "%.2f"}
    assert against["RMSE relative to served"].str.fullmatch(r"[+-][\d.]+ %").all()
    assert literal("in- and outflow together") in words(shown(city="small-live"))
