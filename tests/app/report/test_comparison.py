"""`forecast compare --networks`: its table, its folder, and its charts."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from app.charts.comparison import by_day, by_hour, charts, worst, worst_day
from app.report.comparison import Asked
from data.city import load_city
from data.store.store import Store
from pipelines.compare.comparison import Held, hold
from pipelines.compare.contestants import CONTEXTS, FULL, Plan, Run, chosen
from pipelines.compare.standings import Standings, standings

Call = Callable[..., tuple[int, str, str]]
NAMES = {"error-by-hour", "error-by-day", "reliability", "worst-day"}


@pytest.fixture
def found(small_home: Path) -> Standings:
    """Standings of the baselines, two of which stand for two seeds of the city's own forecaster."""
    *_, held = hold(Store(), load_city("small"), chosen(["baselines"], 1), Plan(2))
    assert isinstance(held, Held)
    of = {run.contestant.name: kept for run, kept in held.runs.items()}
    own = {Run(FULL, n): of[name] for n, name in enumerate(("average-and-anomaly", "last-week"))}
    return standings(dataclasses.replace(held, runs={**held.runs, **own}))


def lines(figure: Figure) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}


def test_a_contest_prints_its_table_and_writes_its_folder(
    run: Call, small_home: Path, tmp_path: Path
) -> None:
    words = ("compare", "--city", "small", "--networks", "baselines", "--horizon", 2)
    code, out, err = run(*words, "--output", tmp_path / "table")
    assert code == 0, err
    assert "Small town: 167 windows of the test span" in out
    assert "the best other" in out
    assert "run 1 of" in err
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        *(f"{name}.png" for name in NAMES),
        "table.json",
        "table.md",
    }
    content = json.loads((tmp_path / "table" / "table.json").read_text())
    assert content["command"] == (
        "forecast compare --city small --networks baselines --seeds 1 --horizon 2"
    )
    code, out, err = run(*words, "--json")
    assert code == 0
    assert "run 1 of" not in err
    again = json.loads(out)
    for one in (content, again):
        del one["made"]
    assert again == content


def test_the_command_is_told_as_it_would_be_typed(small_home: Path) -> None:
    city = load_city("small")
    asked = Asked(["convlstm", "trees"], 3, ["plain"], Plan(1, 0.5), None, None)
    assert asked.command(city) == (
        "forecast compare --city small --networks convlstm,trees --seeds 3 --contexts plain "
        "--horizon 1 --minutes 0.5"
    )
    usual = Asked(["all"], 1, CONTEXTS, Plan(), 2, Path("x"))
    assert usual.command(city) == "forecast compare --city small --networks all --seeds 1"


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--networks", "transformer"], 1, "there is no network 'transformer'"),
        (["--networks", "all", "--contexts", "both"], 1, "there is no context 'both'"),
        (["--networks", "all", "--stride", "2"], 2, "--networks compares on the test days"),
        (["--seeds", "3"], 2, "are options of: forecast compare"),
        (["--output", "x"], 2, "are options of: forecast compare"),
    ],
)
def test_what_cannot_be_compared_is_said(
    run: Call, small_home: Path, options: list[str], code: int, text: str
) -> None:
    ended, _, err = run("evaluate", "--city", "small", *options)
    assert ended == code
    assert text in " ".join(err.replace("│", " ").split())


def test_every_chart_is_drawn(found: Standings) -> None:
    assert {name for name, _ in charts(found)} == NAMES


def test_the_error_by_day_is_that_of_the_forecast(found: Standings) -> None:
    held, day = found.held, worst(found)
    forecast = found.main.forecast(held.flow)
    values, first = held.flow.values.astype(np.float64), held.flow.sizes["time"] - 7 * 24
    came = np.stack([values[first + n : len(values) - 1 + n] for n in range(2)], axis=1)
    shown = (forecast["valid_time"].values - np.timedelta64(4, "h")).astype("datetime64[D]")
    squared = ((forecast.values - came) ** 2).mean(axis=(2, 3, 4))
    days = np.unique(shown)
    rmse = [np.sqrt(squared[shown == one].mean()) for one in days]
    np.testing.assert_allclose(lines(by_day(found))[found.main.name], rmse, rtol=1e-4)
    assert day == days[int(np.argmax(rmse))]


def test_the_error_by_hour_has_24_hours(found: Standings) -> None:
    drawn = lines(by_hour(found))[found.main.name]
    assert drawn.shape == (24,)
    assert (drawn > 0).all()


def test_the_worst_day_shows_the_total_that_was_observed(found: Standings) -> None:
    flow, day = found.held.flow, worst(found)
    drawn = lines(worst_day(found))["observed"]
    shown = (flow["time"].values - np.timedelta64(4, "h")).astype("datetime64[D]")
    # The last day's or the first one's slot of the other lead may lie beyond the span.
    total = flow.values[shown == day].sum(axis=(1, 2, 3))
    assert len(drawn) >= 23
    assert np.isin(drawn, total).all()
