"""What the tests of the command line share."""

import sys
from collections.abc import Callable

import pytest

from app.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `forecast` with arguments: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["forecast", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            main()
            raise SystemExit(0)
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call
