import inspect
from pathlib import Path

from data import paths


def test_every_file_and_folder_of_the_home_has_one_place(flowcast_home: Path) -> None:
    functions = [
        function
        for _, function in inspect.getmembers(paths, inspect.isfunction)
        if function.__module__ == "data.paths"
    ]
    found = [
        function(*(f"some-{name}" for name in inspect.signature(function).parameters))
        for function in functions
    ]
    assert flowcast_home in found
    assert all(path.is_relative_to(flowcast_home) for path in found)
    assert len({*found}) == len(found)


def test_the_layout_is_that_of_homes_of_before(flowcast_home: Path) -> None:
    layout = {
        "flowcast.db": paths.database_file(),
        "cities/bj.toml": paths.city_file("bj"),
        "cities/bj.geojson": paths.overlay_file("bj"),
        "inbox/bj": paths.inbox_folder("bj"),
        "inbox/.bj.json": paths.journal_file("bj"),
        "models/bj/20260101-000000-aaaaaa": paths.version_folder("bj", "20260101-000000-aaaaaa"),
        "models/bj/training": paths.training_folder("bj"),
        "contests/bj": paths.comparisons_folder("bj"),
        "metrics/flowcast.prom": paths.metrics_file(),
        "secrets.toml": paths.secrets_file(),
    }
    assert layout == {name: flowcast_home / name for name in layout}
