"""Curves of benchmarks: what is drawn is what the results hold."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from app.charts.curves import by_frame, growth, learning_curve, lines, panels
from pipelines.benchmark.cost import Panel

EPOCHS: list[dict[str, Any]] = [
    {"number": 1, "loss": 0.5, "validation": 40.0, "best": True},
    {"number": 2, "loss": 0.2, "validation": 30.0, "best": True},
    {"number": 3, "loss": 0.1, "validation": 35.0, "best": False},
]


def line(ax: Axes, at: int = 0) -> list[list[float]]:
    points: list[list[float]] = np.asarray(ax.get_lines()[at].get_xydata()).tolist()
    return points


def test_the_learning_curve_shows_loss_and_validation_and_the_chosen_epoch() -> None:
    above, below = learning_curve(EPOCHS).axes
    assert above.get_yscale() == "log"
    assert line(above) == [[1, 0.5], [2, 0.2], [3, 0.1]]
    assert below.get_yscale() == "linear"
    assert line(below) == [[1, 40], [2, 30], [3, 35]]
    assert line(below, 2) == [[2, 30]]
    legend = below.get_legend()
    assert legend is not None
    assert legend.get_texts()[1].get_text() == "chosen: epoch 2, 30"


def test_an_epoch_without_a_finite_error_is_a_gap() -> None:
    epochs = [EPOCHS[0], {"number": 2, "loss": None, "validation": None, "best": False}]
    above, _ = learning_curve(epochs).axes
    assert np.isnan(line(above)[1][1])


def result(values: list[float | None]) -> dict[str, Any]:
    return {"scores": {"mse": {"by_frame": values}, "ssim": {"by_frame": values}}}


def test_errors_by_frame_are_a_line_a_run_from_frame_1() -> None:
    ax = by_frame({"a": result([1.0, 2.0]), "b": result([3.0, None])}).axes[0]
    assert line(ax) == [[1, 1], [2, 2]]
    assert line(ax, 1)[0] == [1, 3] and np.isnan(line(ax, 1)[1][1])
    assert ax.get_ylabel().startswith("MSE")
    assert "lower is better" in ax.get_title()


def test_a_metric_that_a_grid_does_not_have_says_so() -> None:
    ax = by_frame({"a": result([None, None])}, "ssim").axes[0]
    assert "no values" in [text.get_text() for text in ax.texts]
    assert "higher is better" in ax.get_title()


def test_lines_have_their_points_scales_and_labels() -> None:
    figure = lines(
        {"a": ([16, 32, 64], [0.1, 0.4, 2]), "b": ([16, 64], [1, 3])},
        "side, cells",
        "seconds",
        "Cost",
        log_x=True,
        log_y=True,
    )
    ax = figure.axes[0]
    assert line(ax) == [[16, 0.1], [32, 0.4], [64, 2]]
    assert line(ax, 1) == [[16, 1], [64, 3]]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("side, cells", "seconds", "Cost")
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["16", "32", "64"]


def test_no_two_of_many_lines_look_the_same() -> None:
    series = {str(at): ([1.0], [float(at)]) for at in range(20)}
    looks = [
        (each.get_color(), each.get_marker(), each.get_linestyle())
        for each in lines(series, "x", "y", "t").axes[0].get_lines()
    ]
    assert len(set(looks)) == 20


@pytest.mark.parametrize("label", ["a", "network=swinlstm-d data.horizon=10 " * 8])
def test_the_names_of_lines_stay_within_the_figure_and_off_the_lines(label: str) -> None:
    figure = lines({label: ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y", "t")
    figure.draw_without_rendering()
    names = figure.legends[0].get_window_extent()
    assert 0 <= names.x0 < names.x1 <= figure.bbox.width
    assert 0 <= names.y0 < names.y1 <= figure.axes[0].get_window_extent().y0


def test_a_label_has_one_color_in_all_panels_and_stands_once_in_the_legend() -> None:
    figure = panels(
        {"time": {"a": ([1, 2], [3, 4]), "b": ([1, 2], [5, 6])}, "memory": {"b": ([1, 2], [7, 8])}},
        "side",
        "Cost",
    )
    time, memory = figure.axes
    assert [ax.get_title() for ax in (time, memory)] == ["time", "memory"]
    assert memory.get_lines()[0].get_color() == time.get_lines()[1].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_growth_has_a_panel_a_figure_with_its_powers_and_names_the_lines_once() -> None:
    panels_of = [
        Panel("time", "cells", {"a": ([1, 4], [1, 4]), "b": ([1, 4], [1, 16])}, {"a": 1, "b": 2}),
        Panel("memory", "cities", {"b": ([1, 2], [7, 8])}, {"b": 0.19}),
    ]
    figure = growth(panels_of, "Growth")
    time, memory = figure.axes
    assert line(time, 1) == [[1, 1], [4, 16]]
    assert (time.get_xlabel(), memory.get_xlabel()) == ("cells", "cities")
    assert {ax.get_yscale() for ax in (time, memory)} == {"log"}
    assert memory.get_lines()[0].get_color() == time.get_lines()[1].get_color()
    told = [ax.get_legend() for ax in (time, memory)]
    texts = [[text.get_text() for text in one.get_texts()] for one in told if one is not None]
    assert texts == [["power 1.00", "power 2.00"], ["power 0.19"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
