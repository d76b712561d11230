"""The command line: what it prints, where, and with which exit code."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.city import load_city
from data.store.store import Store

Run = Callable[..., tuple[int, str, str]]


def test_the_main_verb_prints_a_row_for_each_lead(run: Run, small_home: Path) -> None:
    code, out, err = run("--city", "small", "--horizon", 3)
    assert code == 0, err
    assert "Small town: swinlstm-b, version 20" in out
    for hour in ("00:00", "01:00", "02:00"):
        assert f"Mon 2025-04-07 {hour}" in out
    assert "03:00" not in out


def test_json_holds_the_whole_forecast_and_nothing_else_on_stdout(
    run: Run, small_home: Path
) -> None:
    code, out, _ = run("--city", "small", "--horizon", 2, "--json")
    forecast = json.loads(out)
    assert code == 0
    assert forecast["init_time"] == "2025-04-06T23:00:00-04:00"
    assert forecast["valid_time"] == ["2025-04-07T00:00:00-04:00", "2025-04-07T01:00:00-04:00"]
    assert np.shape(forecast["flow"]) == (2, 2, 6, 5)
    stored = Store().forecasts.newest(load_city("small"))
    assert stored is not None
    np.testing.assert_allclose(forecast["flow"], stored.values[0], atol=0.006)
    assert forecast["model_version"] == stored.attrs["model_version"]


def test_a_forecast_tells_its_bands(run: Run, calibrated_home: Path) -> None:
    code, out, err = run("--city", "small", "--horizon", 2)
    assert code == 0, err
    assert re.search(r"\d+ \(\d+ to \d+\) at \d, \d", out)
    assert "in brackets: 80 % prediction interval" in out
    forecast = json.loads(run("--city", "small", "--horizon", 2, "--json")[1])
    assert forecast["band"]["coverage"] == [0.5, 0.8, 0.95]
    lower, upper = (np.array(forecast["band"][edge]) for edge in ("lower", "upper"))
    assert lower.shape == upper.shape == (3, 2, 2, 6, 5)
    assert (lower <= np.array(forecast["flow"]) + 0.01).all()
    assert (upper >= np.array(forecast["flow"]) - 0.01).all()


def test_evaluate_tells_what_the_bands_held(run: Run, calibrated_home: Path) -> None:
    code, out, err = run("evaluate", "--city", "small", "--horizon", 2)
    assert code == 0, err
    for text in (
        "Prediction intervals of version 20",
        "120 min",
        "300 or more",
        "23:00",
        "worst lead and flow",
    ):
        assert text in out
    held = json.loads(run("evaluate", "--city", "small", "--horizon", 2, "--json")[1])["coverage"]
    assert [len(held[name]) for name in ("all", "by_lead", "by_hour", "by_flow")] == [2, 4, 48, 16]
    assert len(held["by_lead_and_flow"]) == 2 * 2 * 8
    calibrated, daily = held["all"]
    assert (calibrated["bands"], daily["bands"]) == ("as calibrated", "learning every day")
    assert 0.5 < calibrated["held"]["80"] < calibrated["held"]["95"] <= 1
    assert 0 < daily["width"]["50"] < daily["width"]["80"] < daily["width"]["95"]
    assert sum(one["share"] for one in held["by_hour"][:24]) == pytest.approx(1, abs=1e-4)


def test_at_takes_the_city_s_time_or_an_offset(run: Run, small_home: Path) -> None:
    local = json.loads(run("--city", "small", "--at", "2025-04-05T08:30", "--json")[1])
    offset = json.loads(run("--city", "small", "--at", "2025-04-05T12:30Z", "--json")[1])
    assert local["init_time"] == offset["init_time"] == "2025-04-05T08:00:00-04:00"
    assert local["flow"] == offset["flow"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of torch fails
sys.argv = ["forecast", *sys.argv[1:]]
from app.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "arguments", [["--horizon", "2", "--json"], ["--output", "f.csv"], ["check"], ["evaluate"]]
)
def test_a_forecast_of_an_exported_champion_needs_no_torch(
    small_home: Path, tmp_path: Path, arguments: list[str]
) -> None:
    verb = [] if arguments[0].startswith("-") else [arguments.pop(0)]
    command = [sys.executable, "-c", WITHOUT_TORCH, *verb, "--city", "small", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stderr
    stored = Store().forecasts.newest(load_city("small"))
    assert verb or (stored is not None and stored.attrs["runtime"] == "onnxruntime float32")


def test_a_city_without_a_model_is_told_on_stderr(run: Run, flowcast_home: Path) -> None:
    folder = flowcast_home / "files"
    assert run("simulate", "--out", folder, "--grid", "4x4", "--step", "1h", "--weeks", 1)[0] == 0
    (flowcast_home / "cities").mkdir()
    name = "sim-4x4-60min-1w-0"
    (folder / f"{name}.toml").rename(flowcast_home / "cities" / f"{name}.toml")
    code, out, err = run("ingest", "--city", name, folder)
    assert code == 0, err
    assert "slots: 168 new" in out
    assert "slots of expected flow: 168 new" in out
    code, out, err = run("--city", name)
    assert code == 0
    assert f"{name} has no champion (to train a model: forecast train --city {name})" in err
    assert "the baseline historical average stands in: baselines cannot be compared yet" in err
    assert "historical average" in out


def test_files_are_written_by_their_suffix(run: Run, small_home: Path, tmp_path: Path) -> None:
    names = [tmp_path / f"f{suffix}" for suffix in (".nc", ".csv", ".png")]
    options = [option for name in names for option in ("--output", name)]
    code, _, err = run("--city", "small", *options)
    assert code == 0, err
    assert names[0].read_bytes()[:4] == b"\x89HDF"
    assert names[1].read_text().startswith("init_time,lead_minutes,valid_time,y,x,inflow,outflow")
    assert names[2].read_bytes()[:4] == b"\x89PNG"


def test_check_lists_the_archive_as_text_and_json(run: Run, small_home: Path) -> None:
    code, out, _ = run("check", "--city", "small")
    assert code == 0
    # Five weeks less the hour that clocks skipped on 9 March.
    assert "839 from 2025-03-03 00:00 to 2025-04-06 23:00" in out
    assert "days      35, 35 of them complete" in out
    archive = json.loads(run("check", "--city", "small", "--json")[1])
    assert archive["slots"] == 839
    assert archive["gaps"] == []


def test_evaluate_prints_one_table_with_all_forecasters(run: Run, small_home: Path) -> None:
    code, out, err = run("evaluate", "--city", "small")
    assert code == 0, err
    for name in ("persistence", "same slot last week", "historical average", "swinlstm-b", "floor"):
        assert name in out
    scores = json.loads(run("evaluate", "--city", "small", "--json")[1])
    first = scores["forecasters"]["swinlstm-b"][0]
    assert first["lead_minutes"] == 60
    assert scores["windows"] == 165
    assert scores["windows_per_second"] == pytest.approx(165 / scores["seconds"], rel=0.01)
    assert "165 windows in" in err


def test_evaluate_takes_a_span_in_the_city_s_time(run: Run, small_home: Path) -> None:
    span = ["--from", "2025-04-05", "--to", "2025-04-06T12:00", "--stride", 4, "--horizon", 2]
    code, out, err = run("evaluate", "--city", "small", *span, "--json")
    assert code == 0, err
    scores = json.loads(out)
    assert (scores["first"], scores["last"]) == ("2025-04-05T04:00:00Z", "2025-04-06T13:00:00Z")
    assert scores["windows"] == 9


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--city", "../x"], "is no name of a city"),
        (["--city", "atlantis"], "no city 'atlantis'; known: bj, demo, nyc"),
        (["--city", "bj"], "no flow for bj; run: forecast ingest --city bj PATH"),
        (["check", "--city", "Bj"], "is no name of a city"),
        (["ingest", "--city", "bj", "no/such/file"], "no/such/file does not exist"),
        (["evaluate", "--city", "bj"], "no flow for bj"),
        (["evaluate", "--city", "bj", "--from", "2016-01-01"], "no flow for bj"),
        (["--city", "bj", "--at", "2016-01-01"], "no flow for bj"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(
    run: Run, arguments: list[str], sentence: str
) -> None:
    code, out, err = run(*arguments)
    assert code == 1
    assert sentence in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--horizon", "4"], "name the city"),
        (["--city", "bj", "--horizon", "0"], "or equal to 1"),
        (["--city", "bj", "--horizon", "four"], "integer"),
        (["--city", "bj", "--output", "maps.pdf"], "must end in .nc, .csv, .png"),
        (["--city", "bj", "--at", "yesterday morning"], "is not a time"),
        (["--city", "nyc", "--at", "2016-03-13T02:30"], "is not a time in America/New_York"),
        (["--city", "bj", "check", "--city", "bj"], "options come after the command"),
        (["check"], "--city"),
        (["ingest", "--city", "bj"], "PATH"),
        (["simulate", "--out", "x", "--grid", "32"], "grid"),
        (["simulate", "--out", "x", "--step", "7min"], "divides a day"),
        (["evaluate", "--city", "bj", "--from", "soon"], "is not a time"),
        (["evaluate", "--city", "bj", "--stride", "0"], "or equal to 1"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str], sentence: str) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert sentence in " ".join(err.replace("│", " ").split())
    assert out == ""


def test_a_refused_file_is_told_and_fails_while_the_good_one_is_stored(
    run: Run, flowcast_home: Path, tmp_path: Path
) -> None:
    good, bad = tmp_path / "a.h5", tmp_path / "b.h5"
    with h5py.File(good, "w") as file:
        file["data"] = np.ones((2, 2, 32, 32))
        file["date"] = np.array([b"2015110201", b"2015110202"])
    bad.write_text("not HDF5")
    code, out, err = run("ingest", "--city", "bj", bad, good)
    assert code == 1
    assert "a.h5: slots: 2 new" in out
    assert "b.h5" in err
    assert "1 of 2 files refused" in err
    code, out, _ = run("check", "--city", "bj")
    assert code == 0
    assert "refused" in out


def test_weather_is_told_by_ingest_and_check(run: Run, flowcast_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "weather.csv"
    path.write_text("time,rain,wind\n2016-01-01T00:00,0,3\n2016-01-03T00:00,T,\n")
    code, out, err = run("ingest", "--city", "bj", path)
    assert code == 0, err
    assert "weather.csv: records of weather: 2 new\n  of rain, wind\n" in out
    _, out, _ = run("check", "--city", "bj")
    assert "weather   2 records, known from 2016-01-01 00:00 to 2016-01-03 00:00" in out
    assert "rain is missing 1 times, first 2016-01-02 01:00 to 2016-01-03 00:00" in out
    told = json.loads(run("check", "--city", "bj", "--json")[1])["weather"]
    gap = {"from": "2016-01-01T17:00:00Z", "to": "2016-01-02T16:00:00Z"}
    assert (told["records"], told["gaps"]) == (2, {"rain": [gap], "wind": []})
