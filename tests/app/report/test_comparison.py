"""`forecast compare`: its table, its folder, and its charts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from app.charts.comparison import by_day, by_hour, charts, worst_day, worst_of
from app.report.comparison import show_comparison
from data.city import load_city
from data.store.store import Store
from pipelines.compare.comparison import Comparison
from pipelines.compare.contestants import FULL, Run, chosen
from pipelines.compare.run import path_of, read
from pipelines.compare.standings import ComparisonResult, compare_runs, standings

Call = Callable[..., tuple[int, str, str]]
NAMES = {"error-by-hour", "error-by-day", "reliability", "worst-day"}


@pytest.fixture
def found(small_home: Path) -> ComparisonResult:
    """What baselines show, two of which stand for two seeds of the city's own forecaster."""
    comparison = Comparison.of(Store(), load_city("small"), 2, 15)
    runs = chosen(["baselines"], 1)
    show_comparison(compare_runs(comparison, runs))
    left = {run: read(path_of(run, comparison), comparison.flow) for run in runs}
    made = {run: one for run, one in left.items() if one is not None}
    of = {run.contestant.name: one for run, one in made.items()}
    own = {Run(FULL, n): of[name] for n, name in enumerate(("average-and-anomaly", "last-week"))}
    return standings(comparison, {**made, **own}, {})


def drawn(figure: Figure) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}


def test_a_comparison_prints_its_table_and_writes_its_folder(
    run: Call, small_home: Path, tmp_path: Path
) -> None:
    words = ("compare", "--city", "small", "--networks", "baselines", "--horizon", 2)
    code, out, err = run(*words, "--output", tmp_path / "table")
    assert code == 0, err
    assert "| Small town " in out
    assert "167 windows of the test span" in out
    assert "the best other" in out
    assert "run 1 of" in err
    assert {path.name for path in (tmp_path / "table").iterdir()} == {
        *(f"{name}.png" for name in NAMES),
        "table.json",
        "table.md",
    }
    content = json.loads((tmp_path / "table" / "table.json").read_text())
    assert content["command"] == (
        "forecast compare --city small --networks baselines --seeds 1 "
        "--inputs raw-flow,covariates --horizon 2 --minutes 15"
    )
    code, out, err = run(*words, "--json")
    assert code == 0
    assert "run 1 of" not in err
    again = json.loads(out)
    # The verb that it was part of does the same for a release.
    words = ("evaluate", *words[1:], "--contexts", "plain,context")
    code, out, err = run(*words, "--json")
    assert code == 0
    assert "`forecast compare --networks` now" in err
    assert "run 1 of" not in err
    former = json.loads(out)
    for one in (content, again, former):
        del one["made"]
    assert again == content
    assert former == content


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["compare", "--networks", "transformer"], 1, "there is no network 'transformer'"),
        (["compare", "--networks", ""], 1, "there is no network ''"),
        (["compare", "--inputs", "both"], 1, "there is no input 'both'"),
        (["evaluate", "--networks", "all", "--contexts", "both"], 1, "there is no input 'both'"),
        (
            ["evaluate", "--networks", "all", "--stride", "2"],
            2,
            "--networks compares on the test days",
        ),
        (["evaluate", "--seeds", "3"], 2, "are options of: forecast compare"),
        (["evaluate", "--output", "x"], 2, "are options of: forecast compare"),
    ],
)
def test_what_cannot_be_compared_is_said(
    run: Call, small_home: Path, words: list[str], code: int, text: str
) -> None:
    ended, _, err = run(words[0], "--city", "small", *words[1:])
    assert ended == code
    assert text in " ".join(err.replace("│", " ").split())


def test_every_chart_is_drawn(found: ComparisonResult) -> None:
    assert {name for name, _ in charts(found)} == NAMES


def test_the_error_by_day_is_that_of_the_forecast(found: ComparisonResult) -> None:
    comparison, day = found.comparison, worst_of(found)
    forecast = found.forecast(found.main)
    values, first = (
        comparison.flow.values.astype(np.float64),
        comparison.flow.sizes["time"] - 7 * 24,
    )
    came = np.stack([values[first + n : len(values) - 1 + n] for n in range(2)], axis=1)
    shown = (forecast["valid_time"].values - np.timedelta64(4, "h")).astype("datetime64[D]")
    squared = ((forecast.values - came) ** 2).mean(axis=(2, 3, 4))
    days = np.unique(shown)
    rmse = [np.sqrt(squared[shown == one].mean()) for one in days]
    np.testing.assert_allclose(drawn(by_day(found))[found.main.name], rmse, rtol=1e-4)
    assert day == days[int(np.argmax(rmse))]


def test_the_error_by_hour_has_24_hours(found: ComparisonResult) -> None:
    values = drawn(by_hour(found))[found.main.name]
    assert values.shape == (24,)
    assert (values > 0).all()


def test_the_worst_day_shows_the_total_that_was_observed(found: ComparisonResult) -> None:
    flow, day = found.comparison.flow, worst_of(found)
    values = drawn(worst_day(found))["observed"]
    shown = (flow["time"].values - np.timedelta64(4, "h")).astype("datetime64[D]")
    # The last day's or the first one's slot of the other lead may lie beyond the span.
    total = flow.values[shown == day].sum(axis=(1, 2, 3))
    assert len(values) >= 23
    assert np.isin(values, total).all()
