"""Growth of cost along its axes: what is drawn and fitted is what was measured."""

import pytest

from data.errors import FlowcastError
from pipelines.benchmark.cost import Cost
from pipelines.benchmark.growth import growth_markdown, growth_panels, growths


def cost(seconds: float, **fields: object) -> Cost:
    known = {"network": "a", "side": 32, "device": "cpu", "forecast_seconds": seconds}
    return Cost(**{**known, **fields})  # type: ignore[arg-type]


ROWS = [
    cost(1.0, side=16, training_seconds=3.0, peak=50e9, forecast_share=0.25, training_share=0.5),
    cost(4.0, side=32, training_seconds=48.0),
    cost(2.0, axis="history", history=2),
    cost(2.0, axis="history", history=8),
    cost(5.0, axis="cities", cities=1),
    cost(80.0, axis="cities", cities=4),
    Cost("a", 32, "cpu", axis="cities", cities=8, failed="out of memory"),
]


def test_each_axis_is_fitted_in_its_own_count() -> None:
    panels = {(one.x_label, one.title): one for one in growth_panels(ROWS)}
    grid = panels["cells of a frame", "forecast, ms"]
    assert grid.lines == {"a": ([256, 1024], [1000, 4000])}
    assert grid.exponents["a"] == pytest.approx(1)
    assert panels["cells of a frame", "training step, ms"].exponents["a"] == pytest.approx(2)
    assert panels["frames that are seen", "forecast, ms"].exponents["a"] == pytest.approx(0)
    cities = panels["cities, forecast one after the other", "forecast, ms"]
    assert cities.lines == {"a": ([1, 4], [5000, 80000])}
    assert cities.exponents["a"] == pytest.approx(2)
    assert len(panels) == 4, "what was not measured has no panel"


def test_the_text_tells_figures_failures_powers_and_shares() -> None:
    text = growth_markdown(ROWS)
    assert "| a | 32x32 | 8 | failed: out of memory |" in text
    assert "| a | 32x32 | 4 | 80,000.0 |" in text
    assert "| forecast | cells of a frame | a | 1.00 (1.00) |" in text
    assert "100 GFLOP/s" in text
    assert "| a | 16x16 | 0 | 0 | 25% | 50% |" in text


def test_an_unknown_axis_is_one_sentence() -> None:
    with pytest.raises(FlowcastError, match="no axis 'depth'; there is grid, history"):
        next(growths(["depth"], ["convlstm"], [8], device="cpu"))
