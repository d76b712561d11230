"""`forecast compare`: a contest for people, its table and the files of its folder."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from app.cli.options import ERR
from data.city import City
from data.clock import duration
from data.errors import FlowcastError
from data.files import atomic_write, ensure_folder
from data.store.store import Store
from pipelines.compare.comparison import Held, hold
from pipelines.compare.contest_processes import Began, Ended
from pipelines.compare.contestants import CONTEXTS, Plan, chosen
from pipelines.compare.standings import Standings, standings
from pipelines.compare.table import as_markdown, cell, chance, facts
from pipelines.forecast.notes import unknown_years

DOTS_PER_INCH = 110
FIGURES = (("rmse", "RMSE"), ("mae", "MAE"), ("mape_busy", "MAPE above 10, %"))


@dataclass(frozen=True)
class Asked:
    """A contest as the command line asks for it.

    Attributes:
        networks: families, `all` or `ablation`.
        seeds: of each training.
        contexts: `plain` and `context`, one or both.
        plan: of the contest.
        jobs: runs at a time, None for as many as fit.
        output: folder for table and plots, None for none.
    """

    networks: Sequence[str]
    seeds: int
    contexts: Sequence[str]
    plan: Plan
    jobs: int | None
    output: Path | None

    def command(self, city: City) -> str:
        """Returns the command that asks for it."""
        usual = Plan()
        options = {
            "--city": city.name,
            "--networks": ",".join(self.networks),
            "--seeds": f"{self.seeds}",
            "--contexts": "" if set(self.contexts) == set(CONTEXTS) else ",".join(self.contexts),
            "--horizon": "" if self.plan.horizon == usual.horizon else f"{self.plan.horizon}",
            "--minutes": "" if self.plan.minutes == usual.minutes else f"{self.plan.minutes:g}",
        }
        words = [word for key, text in options.items() if text for word in (key, text)]
        return shlex.join(["forecast", "compare", *words])


def contest(store: Store, city: City, asked: Asked) -> dict[str, Any]:
    """Holds a contest, or what is missing of it; returns what it found, as JSON can hold it.

    Raises:
        FlowcastError: as `contest_plan.chosen` and `hold`; it was stopped; nothing can be compared.
    """
    runs = chosen(asked.networks, asked.seeds, asked.contexts)
    held = show_contest(hold(store, city, runs, asked.plan, asked.jobs))
    found = standings(held)
    for note in unknown_years(held.flow, held.flow["time"].values):
        ERR.print(f"note: {note}", markup=False)
    content = facts(found, asked.command(city))
    if asked.output is not None:
        for path in _write(asked.output, found, content):
            ERR.print(f"wrote {path}", markup=False)
    return content


def show_contest(events: Iterator[Began | Ended | Held]) -> Held:
    """Shows on stderr which runs begin and end; returns the contest.

    Raises:
        FlowcastError: it was stopped, and goes on where it was by the same command.
    """
    over = 0
    try:
        for event in events:
            match event:
                case Held():
                    return event
                case Began():
                    ERR.print(f"run {event.number} of {event.count}: {event.label}", markup=False)
                case Ended():
                    over += 1
                    ERR.print(f"  {_told(event)}", markup=False)
    except KeyboardInterrupt:
        raise FlowcastError(
            f"the contest was stopped; {over} runs were made now and are kept; the same command goes on"
        ) from None
    raise AssertionError("a contest ends with its result")


def contest_table(content: dict[str, Any]) -> Table:
    """Returns the entries, the best first, with the figures of the first and the last lead."""
    leads = [one["lead_minutes"] for one in content["entries"][0]["errors"]]
    shown = sorted({0, len(leads) - 2})
    table = Table(
        title=Text(f"{content['title']}: {content['windows']:,} windows of the test span"),
        caption="vehicles per step; p: probability of such a difference from the main entry by chance",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for _, title in FIGURES:
        for place in (*shown, -1):
            lead = leads[place]
            heading = f"{title}\n{lead} min" if lead else f"{title}\nall leads"
            table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("training", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in content["entries"]:
        rows = [entry["errors"][place] for place in (*shown, -1)]
        cells = [cell(row[metric]) for metric, _ in FIGURES for row in rows]
        seconds = entry["training_seconds"]
        took = duration(sum(seconds) / len(seconds)) if seconds else ""
        name = Text(entry["name"], style="bold" if entry["name"] == content["main"] else "")
        test = entry["against_main"].get("squared")
        table.add_row(name, *cells, took, chance(test["p"]) if test else "")
    return table


def _told(ended: Ended) -> str:
    if ended.failed:
        return f"{ended.label} failed: {ended.failed}"
    left = f"; {duration(ended.left)} left" if ended.left > 0 else ""
    return (
        f"{ended.label}: validation RMSE {ended.validation:.2f} vehicles after "
        f"{duration(ended.seconds)}; {ended.done} of {ended.count} done{left}"
    )


def _write(folder: Path, found: Standings, content: dict[str, Any]) -> Iterator[Path]:
    """Writes table and plots and yields their paths."""
    from app.charts.comparison import charts

    ensure_folder(folder)
    texts = {
        "table.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False),
        "table.md": as_markdown(content),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        yield folder / name
    for name, figure in charts(found):
        with atomic_write(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=DOTS_PER_INCH)
        yield folder / f"{name}.png"
