import json
import logging

import pytest

from pipelines import log


def test_every_line_is_an_object_whoever_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    log.to_stderr()
    log.info("done", city="bj", seconds=1.5)
    logging.getLogger("apscheduler.scheduler").warning("skipped: maximum number of instances")
    logging.getLogger("apscheduler.executors.default").error("a job %s", "raised")
    try:
        raise ValueError("twice\ntold")
    except ValueError:
        log.fail("a bug", traceback=True)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["message"] for one in lines] == ["done", "a job raised", "a bug"]
    assert (lines[0]["city"], lines[0]["seconds"], lines[1]["level"]) == ("bj", 1.5, "error")
    assert "ValueError: twice\ntold" in lines[2]["traceback"]
