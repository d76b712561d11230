"""Log: one JSON object a line on stderr, for whatever gathers logs."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("flowcast")
LIBRARIES = ("apscheduler",)
"""That write to the log by themselves; only their errors are of use."""


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as a line of JSON."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def to_stderr() -> None:
    """Sends the log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [handler], False
        library.setLevel(logging.ERROR)


def info(message: str, **fields: Any) -> None:
    """Logs what happened, with fields such as `city`, `job`, `run` and `seconds`."""
    LOGGER.info(message, extra={"fields": fields})


def warn(message: str, **fields: Any) -> None:
    """Logs what someone should look at."""
    LOGGER.warning(message, extra={"fields": fields})


def fail(message: str, *, traceback: bool = False, **fields: Any) -> None:
    """Logs what went wrong, with the traceback of the exception at hand if asked for."""
    LOGGER.error(message, extra={"fields": fields}, exc_info=traceback)
