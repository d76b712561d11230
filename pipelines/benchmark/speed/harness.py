"""Ways of doing the same work, in turns, each in processes of its own.

All are prepared first; then, round by round, each works for a while as all others wait, so that whatever
slows the machine slows them alike. What counts are medians over the rounds, and of the ratio to the
reference within each round. The first round warms up and does not count.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from forecasting.profiling.memory import begin_peak, peak_memory_of_process


class Work(NamedTuple):
    """Work that is prepared and can be done again and again; `run` does it once, to the end."""

    run: Callable[[], object]
    units: int = 1  # sequences, windows ... of one run
    output: np.ndarray | None = None  # to compare with the reference's
    memory: Callable[[], int] | None = None  # its peak in bytes; else the process's from now on
    facts: dict[str, Any] = {}  # noqa: RUF012  # for the table
    profile: Callable[[], dict[str, float]] | None = None  # further facts, of a run looked into


@dataclass(frozen=True)
class Variant:
    """One way of doing the work, prepared in its process by what can be pickled."""

    name: str
    prepare: Callable[[], Work]
    workers: int = 1  # processes that work at once
    speed: float | None = None  # required, in times the reference's
    memory: float | None = None  # allowed, as a part of the reference's


class Case(NamedTuple):
    """The same work done in several ways, the first of which is the reference; units are counted."""

    part: str
    case: str
    unit: str
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Figure:
    """How a variant did: rates in units a second, memory in bytes."""

    part: str
    case: str
    variant: str
    unit: str
    rates: tuple[float, ...] = ()  # by round
    ratios: tuple[float, ...] = ()  # of `rates` to the reference's
    required: float | None = None  # of their median
    memory: int = 0  # at the peak
    memory_ratio: float = math.nan  # of the reference's
    memory_limit: float | None = None  # of that ratio
    difference: float = math.nan  # the largest between its output and the reference's
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""  # why there are no figures

    @property
    def rate(self) -> float:
        """Median units a second."""
        return statistics.median(self.rates) if self.rates else math.nan

    @property
    def ratio(self) -> float:
        """Median of the ratios to the reference."""
        return statistics.median(self.ratios) if self.ratios else math.nan

    @property
    def name(self) -> str:
        """Part, case and variant, for people."""
        return f"{self.part}, {self.case}, {self.variant}"


class _Team:
    """The processes of a variant, and what is known of it."""

    def __init__(self, variant: Variant, stack: ExitStack) -> None:
        spawn = get_context("spawn")
        pools = (ProcessPoolExecutor(1, mp_context=spawn) for _ in range(variant.workers))
        self.variant, self.pools = variant, [stack.enter_context(pool) for pool in pools]
        self.output: np.ndarray | None = None
        self.facts: dict[str, Any] = {}
        self.rates: list[float] = []
        self.memory = 0
        self.failed = ""

    def all(self, function: Callable[..., Any], *arguments: object) -> list[Any]:
        """Returns what a function returns in each process, none once one of them has failed."""
        if self.failed:
            return []
        try:
            futures = [pool.submit(function, *arguments) for pool in self.pools]
            return [future.result() for future in futures]
        except BrokenProcessPool:
            self.failed = "its process ended, out of memory perhaps"
        except Exception as error:  # whatever it is, the others go on
            reason = (str(error).splitlines() or ["no reason given"])[0]
            self.failed = f"{type(error).__name__}: {reason}"
        return []


def measure_case(case: Case, rounds: int, seconds: float) -> list[Figure]:
    """Returns the figures of all variants, in their order.

    In each of the rounds that count a variant works for `seconds` at least, and finishes what it started.
    """
    with ExitStack() as stack:
        # One after the other: two threads each at once would only stand in one another's way.
        teams = [_Team(variant, stack) for variant in case.variants]
        for team in teams:
            if prepared := team.all(_prepare, team.variant.prepare):
                team.output, team.facts = prepared[0]
        for number in range(rounds + 1):
            for team in teams:
                done = team.all(_work, seconds if number else 0.0)
                if done and number:
                    counts, starts, ends = zip(*done, strict=True)
                    team.rates.append(sum(counts) / (max(ends) - min(starts)))
        for team in teams:
            ended = team.all(_finish)
            team.memory = sum(memory for memory, _ in ended)
            team.facts = {**team.facts, **(ended[0][1] if ended else {})}
    return [_figure(case, team, teams[0]) for team in teams]


def _figure(case: Case, team: _Team, reference: _Team) -> Figure:
    names = (case.part, case.case, team.variant.name, case.unit)
    if team.failed:
        return Figure(*names, failed=team.failed)
    ratios: tuple[float, ...] = ()
    if not reference.failed:
        ratios = tuple(own / its for own, its in zip(team.rates, reference.rates, strict=True))
    difference = math.nan
    if not reference.failed and team.output is not None and reference.output is not None:
        difference = float(np.abs(team.output - reference.output).max())
    return Figure(
        *names,
        rates=tuple(team.rates),
        ratios=ratios,
        required=team.variant.speed,
        memory=team.memory,
        memory_ratio=team.memory / reference.memory if reference.memory else math.nan,
        memory_limit=team.variant.memory,
        difference=difference,
        facts=team.facts,
    )


# In the process of a variant

_PREPARED: list[tuple[Work, Callable[[], int]]] = []


def memory_from_now() -> Callable[[], int]:
    """Returns what measures the peak in bytes that this process takes from now on beyond those it has."""
    before = begin_peak()
    return lambda: max(0, peak_memory_of_process() - before)


def _prepare(prepare: Callable[[], Work]) -> tuple[np.ndarray | None, dict[str, Any]]:
    memory, started = memory_from_now(), time.monotonic()
    work = prepare()
    _PREPARED.append((work, work.memory or memory))
    return work.output, {**work.facts, "set_up_seconds": time.monotonic() - started}


def _work(seconds: float) -> tuple[int, float, float]:
    """Works for `seconds` or once; returns units, start and end on the machine's clock."""
    ((work, _),) = _PREPARED
    started, count = time.monotonic(), 0
    while not count or time.monotonic() - started < seconds:
        work.run()
        count += work.units
    return count, started, time.monotonic()


def _finish() -> tuple[int, dict[str, float]]:
    """Returns the peak of memory in bytes and the facts of a profile."""
    ((work, memory),) = _PREPARED
    return memory(), work.profile() if work.profile else {}
