"""The dashboard in a real browser: Debian's chromium, driven by Playwright.

Its list: every page drawn, at three widths, by the rules of WCAG A and AA (axe-core), without an error in
the console or a request to another host; the click on a cell, the slider, playback, the link,
exports, the zone of the browser, the keyboard alone, the refresh.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from app.dashboard.pages import PAGES
from tests.serving import served

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WAIT = 600_000
STANDS = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    const moving = document.getAnimations().some(one => one.playState === 'running'
        && Number.isFinite(one.effect?.getComputedTiming().endTime));
    return app?.dataset.testScriptState !== 'running'
        && !document.querySelector('[data-stale=true]') && !moving;
}"""


class Server(NamedTuple):
    """A running dashboard."""

    url: str
    home: Path


@pytest.fixture(scope="module")
def server(_lived_in_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(_lived_in_home, home)
    toml = home / "cities" / "small-live.toml"
    earth = home / "cities" / "small-earth.toml"
    earth.write_text(toml.read_text() + "bbox = [-74.02, 40.70, -73.87, 40.85]\n")
    with served(home, 3600) as (url, _):  # no refresh while a page is looked at
        yield Server(url, home)


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Seen:
    """What a page said in its console, and whom it asked."""

    def __init__(self, page: "playwright.Page") -> None:
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _console(self, message: "playwright.ConsoleMessage") -> None:
        if message.type == "error":
            self.errors.append(message.text)


@pytest.fixture
def page(browser: "playwright.Browser") -> Iterator["playwright.Page"]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def link(server: Server, **query: str) -> str:
    asked = {"city": "small-live"} | query
    return f"{server.url}/?" + "&".join(f"{name}={value}" for name, value in asked.items())


def drawn(page: "playwright.Page", url: str) -> None:
    """Opens a page and waits until it is drawn."""
    page.goto(url)
    page.wait_for_selector("h1", timeout=WAIT)
    settled(page)


def settled(page: "playwright.Page") -> None:
    """Waits until the script has run, the charts stand and nothing fades in or out any more."""
    for _ in range(2):  # a chart that is drawn may ask the script to run again
        page.wait_for_function(STANDS, timeout=WAIT)
        page.wait_for_timeout(350)
    page.wait_for_function(STANDS, timeout=WAIT)


def words(page: "playwright.Page") -> str:
    return str(page.inner_text("[data-testid=stMain]"))


def charts(page: "playwright.Page") -> "playwright.Locator":
    return page.locator("[data-testid=stVegaLiteChart] svg.marks")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAGES])
def test_each_page_is_drawn_for_all_asks_no_other_host_and_logs_no_error(
    server: Server, page: "playwright.Page", name: str
) -> None:
    seen = Seen(page)
    sizes = ((640, 450), (1280, 900), (1920, 1080))  # the first: 1280 at 200 %
    for width, height in sizes:
        page.set_viewport_size({"width": width, "height": height})
        if width == sizes[0][0]:  # opened where there is least room, then made wider
            drawn(page, link(server, page=name, y="2", x="3"))
        page.wait_for_function("wide => innerWidth === wide", arg=width, timeout=WAIT)
        settled(page)
        assert PAGES[name].title.lower() in page.inner_text("h1")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide on {width}"
        for _ in range(3):  # what is being refreshed is faint for a moment
            page.wait_for_function(STANDS, timeout=WAIT)
            found = axe.Axe().run(page, options={"runOnly": RULES})
            broken = [
                (one["id"], [node["html"][:150] for node in one["nodes"][:3]])
                for one in found.response["violations"]
            ]
            if {one for one, _ in broken} != {"color-contrast"}:
                break
        assert not broken, f"{name} at {width}: {json.dumps(broken, indent=1)}"
    assert seen.hosts == {server.url.removeprefix("http://")}
    assert not seen.errors


def test_a_click_on_a_cell_chooses_it_and_the_link_shows_a_colleague_the_same(
    server: Server, page: "playwright.Page", browser: "playwright.Browser"
) -> None:
    drawn(page, link(server))
    assert "Click on a cell" in words(page)
    assert page.locator("[data-testid=stSidebarNav]").count() == 0  # Streamlit's own navigation
    canvas = charts(page).first
    canvas.wait_for(timeout=WAIT)
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.3})
    page.wait_for_url(re.compile(r"[?&]y=\d+&x=\d+"), timeout=WAIT)
    settled(page)
    asked = dict(re.findall(r"[?&](\w+)=([^&]*)", page.url))
    assert f"Row {asked['y']}, column {asked['x']}" in words(page)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    other = context.new_page()
    drawn(other, page.url)
    for one in (page, other):
        charts(one).nth(2).wait_for(timeout=WAIT)
    assert words(other) == words(page)
    context.close()


@pytest.mark.slow
def test_the_slider_and_playback_move_the_forecast(server: Server, page: "playwright.Page") -> None:
    drawn(page, link(server, lead="1"))
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("lead=2"), timeout=WAIT)
    settled(page)
    assert "2 h ahead" in words(page) or "120 min ahead" in words(page)
    page.get_by_role("button", name="Play").click()
    page.wait_for_url(re.compile("lead=1"), timeout=WAIT)
    page.wait_for_url(
        re.compile("lead=3"), timeout=WAIT
    )  # sooner than the next refresh, of an hour
    page.get_by_role("button", name="Play").wait_for(timeout=WAIT)  # it has ended by itself


@pytest.mark.slow
def test_the_same_cell_can_be_chosen_again_on_another_map(
    server: Server, page: "playwright.Page"
) -> None:
    drawn(page, link(server))
    seen = []
    for number, share in ((0, 0.3), (1, 0.5), (0, 0.3)):
        chart = charts(page).nth(number)
        chart.wait_for(timeout=WAIT)
        box = chart.bounding_box()
        assert box is not None
        former = page.url
        chart.click(position={"x": box["width"] * 0.5, "y": box["height"] * share})
        page.wait_for_function("url => location.href !== url", arg=former, timeout=WAIT)
        settled(page)
        seen.append(re.findall(r"[?&]y=(\d+)&x=(\d+)", page.url))
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.slow
def test_no_text_of_others_becomes_a_link_or_a_sign(
    server: Server, page: "playwright.Page"
) -> None:
    wild = "http://evil.example%20<b>b</b>"
    more = {"channel": "www.evil.example%20:red[x]", "lead": ":material/home:%20->"}
    more["time"] = (
        "forecast%20step%20http://evil.example%20`:red[x]"  # in what looks like a command
    )
    drawn(page, link(server, page=wild, **more))
    assert "evil.example" in words(page)
    assert page.locator("[data-testid=stMain] [data-testid=stAlert] a").count() == 0
    assert page.locator("[data-testid=stMain] [data-testid=stAlert] b").count() == 0
    assert "material/home" in words(page)


@pytest.mark.slow
def test_maps_and_tables_are_exported(
    server: Server, page: "playwright.Page", tmp_path: Path
) -> None:
    drawn(page, link(server, page="quality"))
    exports = page.get_by_role("button", name="Export")
    for number in (0, 3):  # a map, and the table of forecasters
        exports.nth(number).click()
        kept = {}
        for kind in ("PNG", "CSV", "NetCDF"):
            with page.expect_download(timeout=WAIT) as waiting:
                page.get_by_role("button", name=re.compile(f"^{kind}\\b")).click()
            name = waiting.value.suggested_filename
            assert re.fullmatch(r"[A-Za-z0-9_-]+\.(png|csv|nc)", name)
            kept[kind] = tmp_path / f"{number}{name}"
            waiting.value.save_as(kept[kind])
        assert Image.open(kept["PNG"]).size[0] > 300
        table = pd.read_csv(kept["CSV"])
        assert len(table) == (30 if number == 0 else 7)
        with xr.open_dataset(kept["NetCDF"], engine="h5netcdf") as dataset:
            assert dataset.sizes == ({"y": 6, "x": 5} if number == 0 else {"row": 7})
        page.keyboard.press("Escape")


@pytest.mark.slow
def test_all_browsers_show_the_times_of_the_city(
    server: Server, browser: "playwright.Browser"
) -> None:
    said, drawings = set(), set()
    for zone in ("UTC", "Asia/Shanghai", "America/New_York"):
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, timezone_id=zone, locale="en-US"
        )
        page = context.new_page()
        drawn(page, link(server, page="cell", y="2", x="3"))
        charts(page).nth(2).wait_for(timeout=WAIT)
        said.add(words(page))
        labels = "one => [...one.querySelectorAll('text')].map(label => label.textContent).join()"
        drawings.add(charts(page).nth(1).evaluate(labels))
        context.close()
    assert len(said) == 1
    assert len(drawings) == 1
    assert "00:00" in drawings.pop()


@pytest.mark.slow
def test_the_keyboard_alone_is_enough(server: Server, page: "playwright.Page") -> None:
    drawn(page, link(server))
    role = "document.activeElement.getAttribute('role')"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate(role) == "radio":
            break
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.innerText") == "Cell"
    page.keyboard.press("Space")
    page.wait_for_url(re.compile("page=cell"), timeout=WAIT)
    settled(page)
    for number, value in (("Row", "2"), ("Column", "4")):
        page.get_by_label(number, exact=True).focus()
        page.keyboard.type(value)
        page.keyboard.press("Enter")
        settled(page)
    assert "y=2&x=4" in page.url
    assert "Inflow of row 2, column 4" in words(page)


@pytest.mark.slow
def test_a_page_shows_what_comes_in_and_keeps_what_was_chosen(
    lived_in: Path, page: "playwright.Page"
) -> None:
    from data.city import load_city
    from data.store.store import Store
    from pipelines.ingest.replay import from_archive, play, store_past
    from pipelines.operate.update import update

    with served(lived_in, 4) as (url, _):
        drawn(page, link(Server(url, lived_in), lead="3", y="1", x="1", threshold="7"))
        before = words(page)
        store, source, city = Store(), load_city("small"), load_city("small-live")
        _, flow = store_past(store, source, city, from_archive(store, source, None))
        for now in play(flow[:1], city):
            update(store, city, now, horizon=3, wall=time.time() + 60)
        store.close()
        strip = re.search(r"Newest slot\n(.*)\n", before)
        assert strip is not None
        page.wait_for_function(
            "text => !document.querySelector('[data-testid=stMain]').innerText.includes(text)",
            arg=f"Newest slot\n{strip[1]}\n",
            timeout=WAIT,
        )
        assert "lead=3" in page.url
        assert "Row 1, column 1" in words(page)
        assert page.get_by_test_id("stNumberInputField").input_value() == "7"


@pytest.mark.slow
def test_a_page_that_opened_in_trouble_draws_itself_once_the_store_is_well(
    lived_in: Path, page: "playwright.Page"
) -> None:
    path = lived_in / "flowcast.db"
    kept = path.read_bytes()
    path.write_bytes(b"this is no database at all, by far" * 100)
    with served(lived_in, 2) as (url, _):
        page.goto(link(Server(url, lived_in)))
        page.get_by_text("is not a flowcast database").wait_for(timeout=WAIT)
        page.wait_for_timeout(5000)  # it has looked again and told the same
        assert "is not a flowcast database" in words(page)
        path.write_bytes(kept)
        page.get_by_text("Newest slot", exact=True).wait_for(timeout=WAIT)
        assert "is not a flowcast database" not in words(page)


@pytest.mark.slow
def test_the_list_keeps_what_is_marked_in_it_when_it_chooses_a_cell(
    server: Server, page: "playwright.Page"
) -> None:
    drawn(page, link(server, threshold="0.4"))
    field = "document.querySelector('[data-testid=stNumberInputField]')"
    page.wait_for_function(f"() => {field}?.value === '0.4'", timeout=WAIT)
    table = page.get_by_test_id("stDataFrame").first
    for number in (1, 2):
        former = page.url
        table.locator("canvas").first.click(position={"x": 15, "y": 17.5 + 35 * number}, force=True)
        page.wait_for_function("url => location.href !== url", arg=former, timeout=WAIT)
        settled(page)
    marked = table.locator("[role=row][aria-selected=true]")
    assert marked.count() == 1
    assert marked.first.get_attribute("aria-rowindex") == "3"


@pytest.mark.slow
def test_on_earth_the_grid_is_drawn_without_asking_for_a_background(
    server: Server, page: "playwright.Page", monkeypatch: pytest.MonkeyPatch
) -> None:
    from data.city import load_city
    from data.store.ingests import Source
    from data.store.store import Store
    from pipelines.operate.update import update

    monkeypatch.setenv("FLOWCAST_HOME", str(server.home))
    store, earth = Store(), load_city("small-earth")
    flow = store.flow.read(load_city("small-live"))
    flow.attrs["city"] = earth.name
    store.flow.add(earth, flow, source=Source("a copy", ""))
    update(store, earth, flow["time"].values[-1], horizon=2)
    store.close()
    seen = Seen(page)
    page.wait_for_timeout(0)
    drawn(page, link(server, city="small-earth"))
    page.get_by_text("On earth").click()
    page.locator("[data-testid=stDeckGlJsonChart]").first.wait_for(timeout=WAIT)
    settled(page)
    assert page.locator("[data-testid=stDeckGlJsonChart]").count() == 3
    assert seen.hosts == {server.url.removeprefix("http://")}
