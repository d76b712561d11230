import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from data.city import load_city
from data.store.store import Store

RUN = CliRunner()


def test_an_archive_is_played_into_another_city_and_stepped(
    small_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = ["--from", "2025-04-06T21:00", "--speed", "1000000"]
    played = RUN.invoke(app, ["replay", "--city", "small", *begin])
    assert played.exit_code == 0, played.output
    assert played.stdout.splitlines()[-3:] == [
        "2025-04-06 22:00",
        "2025-04-06 23:00",
        "2025-04-07 00:00",
    ]
    folder = small_home / "inbox" / "small-live"
    assert len(list(folder.glob("*.h5"))) == 3
    assert (small_home / "cities" / "small-live.toml").is_file()
    capfd.readouterr()
    stepped = RUN.invoke(app, ["update", "--city", "small-live"])
    assert stepped.exit_code == 0
    assert RUN.invoke(app, ["step", "--city", "small-live"]).exit_code == 0  # its former name
    again = RUN.invoke(app, ["replay", "--city", "small", *begin])
    assert again.exit_code == 0
    # They are written again, or, where two seconds have passed, were ingested and are not played again.
    assert len({path.name for path in folder.rglob("*.h5")}) == 3


def test_a_city_is_not_played_into_itself(small_home: Path) -> None:
    refused = RUN.invoke(app, ["replay", "--city", "small", "--into", "small"])
    assert refused.exit_code == 1
    assert "--into small-live" in str(refused.exception)


def test_a_night_without_any_flow_says_so(small_home: Path) -> None:
    done = RUN.invoke(app, ["nightly", "--city", "demo"])
    assert done.exit_code == 1
    line = json.loads(done.stderr.splitlines()[-1])
    assert line["message"] == "no flow for demo; run: forecast ingest --city demo PATH"


def test_a_city_is_played_into_no_other_folder(small_home: Path) -> None:
    refused = RUN.invoke(app, ["replay", "--city", "small", "--into", "../evil"])
    assert "no name of a city" in str(refused.exception)
    assert not (small_home / "evil.toml").exists()


def test_reasons_are_told_as_they_were_written(small_home: Path) -> None:
    place = Store()
    version = str(place.promotions.champion(load_city("small")))
    place.close()
    for reason in ("because [/b] of it", "no text: \udcff"):
        RUN.invoke(app, ["models", "promote", "--city", "small", version, "--reason", reason])
        listed = RUN.invoke(app, ["models", "list", "--city", "small"])
        assert listed.exit_code == 0, listed.exception
    assert "because [/b] of it" in listed.output


@pytest.mark.parametrize("verb", [["schedule"], ["nightly", "--city", "small"]])
@pytest.mark.parametrize("at", ["25:00", "two"])
def test_who_starts_nights_refuses_what_is_no_time_of_day(
    small_home: Path, at: str, verb: list[str]
) -> None:
    refused = RUN.invoke(app, [*verb, "--at", at])
    assert refused.exit_code == 2
    assert "write it like 02:00" in refused.output


def test_a_scheduler_without_any_flow_says_so() -> None:
    refused = RUN.invoke(app, ["schedule"])
    assert refused.exit_code == 1
    assert "forecast ingest" in str(refused.exception)


def test_files_are_played_in_place_of_an_archive(small_home: Path, tmp_path: Path) -> None:
    rows = [
        f"2030-01-0{day}T{hour:02d}:00,{y},{x},{day},{hour}"
        for day, hour in ((1, 22), (1, 23), (2, 0))
        for y in range(6)
        for x in range(5)
    ]
    table = tmp_path / "flow.csv"
    table.write_text("\n".join(["time,y,x,inflow,outflow", *rows, ""]))
    speed = ["--into", "elsewhere", "--speed", "1000000"]
    played = RUN.invoke(app, ["replay", "--city", "small", str(table), *speed])
    assert played.exit_code == 0, played.output
    assert played.stdout.splitlines() == [
        "2030-01-01 23:00",
        "2030-01-02 00:00",
        "2030-01-02 01:00",
    ]
    assert len(list((small_home / "inbox" / "elsewhere").glob("*.h5"))) == 3
    late = RUN.invoke(
        app, ["replay", "--city", "small", str(table), *speed, "--from", "2030-01-02T01:00"]
    )
    assert "ends 2030-01-02 00:00; let --from be no later" in str(late.exception)
    (tmp_path / "sky.csv").write_text("date,rain\n2030-01-01,1\n")
    other = RUN.invoke(app, ["replay", "--city", "small", str(tmp_path / "sky.csv"), *speed])
    assert "no observed flow" in str(other.exception)
