import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.pages import PAGES
from app.dashboard.url import View, parse, query_of

GRIDS = {"bj": (32, 32), "nyc": (16, 12)}
NAMES = ("city", "page", "channel", "lead", "y", "x", "time", "threshold")
VIEWS = st.builds(
    View,
    city=st.just("nyc"),
    page=st.sampled_from([*PAGES]),
    channel=st.sampled_from(["inflow", "outflow"]),
    lead=st.integers(1, 1008),
    cell=st.none() | st.tuples(st.integers(0, 15), st.integers(0, 11)),
    time=st.none() | st.integers(0, 2**32).map(lambda seconds: np.datetime64(seconds, "s")),
    threshold=st.integers(0, 10_000).map(float),
    earth=st.booleans(),
)


@given(VIEWS)
def test_a_link_shows_the_same_view(view: View) -> None:
    assert parse(query_of(view), GRIDS, PAGES) == (view, ())


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=60)))
def test_whatever_stands_in_a_url_gives_a_view_and_says_what_was_wrong(
    query: dict[str, str],
) -> None:
    view, notes = parse(query, GRIDS, PAGES)
    rows, columns = GRIDS[view.city]
    assert view.page in PAGES
    assert view.cell is None or (0 <= view.cell[0] < rows and 0 <= view.cell[1] < columns)
    assert 1 <= view.lead <= 1008
    assert 0 <= view.threshold <= 1e6
    assert all(len(note) < 300 for note in notes)
    assert parse(query_of(view), GRIDS, PAGES) == (view, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("city", "<script>"),
        ("page", "../admin"),
        ("lead", "0"),
        ("lead", "9999999"),
        ("lead", "²"),
        ("y", "16"),
        ("x", "-1"),
        ("time", "now"),
        ("time", "2016-02-30T00:00:00Z"),
        ("threshold", "nan"),
        ("threshold", "1e99"),
        ("threshold", "1e-300"),
    ],
)
def test_a_wrong_parameter_gives_the_default_and_a_note(name: str, value: str) -> None:
    view, notes = parse({"city": "nyc", "y": "1", "x": "1", name: value}, GRIDS, PAGES)
    assert len(notes) == 1
    assert f"{name}={value}" in notes[0]
    if name in ("y", "x"):
        assert view.cell is None
