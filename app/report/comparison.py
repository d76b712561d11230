"""`forecast compare` for people: its progress and the files of its folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.terminal import ERR
from data.clock import duration
from data.errors import FlowcastError
from data.files import atomic_write, write_text
from pipelines.compare.run import Progress
from pipelines.compare.standings import ComparisonResult
from pipelines.compare.table import as_markdown


def show_comparison(events: Iterator[Progress | ComparisonResult]) -> ComparisonResult:
    """Shows on stderr which runs start and end; returns the result.

    Raises:
        FlowcastError: it was stopped; the same command continues.
    """
    ended = 0
    try:
        for event in events:
            if isinstance(event, ComparisonResult):
                return event
            text, outcome = f"{event.number} of {event.count}: {event.run.label}", event.outcome
            ended = ended if outcome is None else event.number
            if outcome is None:
                text = f"run {text}"
            elif isinstance(outcome, str):
                text = f"  failed {text}: {outcome}"
            else:
                error, took = outcome.facts["validation"]["all"], duration(outcome.facts["seconds"])
                text = f"  done {text}: validation RMSE {error:.2f} vehicles after {took}"
            ERR.print(text, markup=False)
    except KeyboardInterrupt:
        raise FlowcastError(
            f"the comparison was stopped; its {ended} new runs are kept, and the same command continues"
        ) from None
    raise AssertionError("a comparison ends with its result")


def write_comparison(
    folder: Path, result: ComparisonResult, content: dict[str, Any]
) -> Iterator[Path]:
    """Writes table and charts into a folder and yields their paths."""
    from app.charts.comparison import charts

    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    for name, written in {"table.json": text, "table.md": as_markdown(content)}.items():
        write_text(folder / name, written)
        yield folder / name
    for name, figure in charts(result):
        with atomic_write(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=110)
        yield folder / f"{name}.png"
