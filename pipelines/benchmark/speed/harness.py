"""A contest: several ways of doing the same work, in turns, each in a process of its own.

All are set up first; then, round by round, one after the other works for a while as all others wait,
so that whatever slows the machine slows them alike. What counts are medians over the rounds, and of
the ratio to the reference within each round. The first round warms up and does not count.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from forecasting.profiling.memory import begin_peak, peak_memory_of_process


class Work(NamedTuple):
    """Work that is set up and can be done again and again.

    Attributes:
        run: does it once, to the end.
        units: how many sequences, windows ... that makes.
        output: what is compared with the reference's, None where nothing is.
        memory: returns the most bytes that it took; None for what the process took since it began.
        facts: whatever else should be known of it.
        profile: looks into the work once and returns further facts.
    """

    run: Callable[[], object]
    units: int = 1
    output: np.ndarray | None = None
    memory: Callable[[], int] | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012
    profile: Callable[[], dict[str, float]] | None = None


def memory_from_now() -> Callable[[], int]:
    """Returns what tells the most bytes that this process takes from now on beyond those it has."""
    before = begin_peak()
    return lambda: max(0, peak_memory_of_process() - before)


@dataclass(frozen=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: for people.
        prepare: sets the work up in the process; it must be possible to pickle.
        workers: processes that do it at once, each its own share.
        speed: how many times the reference's speed it must have, None where nothing is required.
        memory: which part of the reference's memory it may take.
    """

    name: str
    prepare: Callable[[], Work]
    workers: int = 1
    speed: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Contest:
    """The same work done in several ways, the first of which is the reference.

    Attributes:
        part: of the benchmark.
        case: what the work is.
        unit: what is counted.
        contenders: the reference first.
    """

    part: str
    case: str
    unit: str
    contenders: Sequence[Contender]


@dataclass(frozen=True)
class Figure:
    """How a contender did.

    Attributes:
        part: of the benchmark.
        case: what the work was.
        contender: its name.
        unit: what was counted.
        rates: units a second, by round.
        ratios: of `rates` to the reference's, by round.
        required: what the median of `ratios` must be, None where nothing is required.
        memory: the most bytes that it took.
        memory_ratio: of the reference's.
        memory_limit: what that may be.
        difference: the largest between its output and the reference's; nan where none is compared.
        facts: of the work.
        failed: why there are no figures, "" where there are.
    """

    part: str
    case: str
    contender: str
    unit: str
    rates: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    required: float | None = None
    memory: int = 0
    memory_ratio: float = float("nan")
    memory_limit: float | None = None
    difference: float = float("nan")
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    @property
    def rate(self) -> float:
        """Median units a second."""
        return statistics.median(self.rates) if self.rates else float("nan")

    @property
    def ratio(self) -> float:
        """Median of the ratios to the reference."""
        return statistics.median(self.ratios) if self.ratios else float("nan")


def compete(contest: Contest, rounds: int, seconds: float) -> list[Figure]:
    """Returns the figures of all contenders, in their order.

    Args:
        contest: what is done.
        rounds: that count.
        seconds: for which a contender works at least in each of them; it finishes what it began.
    """
    with ExitStack() as stack:
        teams: list[list[Connection]] = []
        states: list[_State] = []
        for contender in contest.contenders:
            workers = range(contender.workers)
            teams.append([stack.enter_context(_worker(contender.prepare)) for _ in workers])
            # One after the other: two threads each at once would only stand in one another's way.
            states.append(_ready(teams[-1]))
        able = [at for at, state in enumerate(states) if not state.failed]
        rates: dict[int, list[float]] = {at: [] for at in able}
        for number in range(rounds + 1):
            for at in list(able):
                rate = _turn(teams[at], seconds if number else 0.0)
                if isinstance(rate, str):
                    states[at] = _State(failed=rate)
                    able.remove(at)
                elif number:
                    rates[at].append(rate)
        ends = {at: _ended(teams[at]) for at in able}
    return [
        _figure(contest, at, states, {key: rates[key] for key in able}, ends)
        for at in range(len(teams))
    ]


def _figure(
    contest: Contest,
    at: int,
    states: Sequence["_State"],
    rates: dict[int, list[float]],
    ends: dict[int, tuple[int, dict[str, float]]],
) -> Figure:
    contender = contest.contenders[at]
    names = (contest.part, contest.case, contender.name, contest.unit)
    if at not in ends:
        return Figure(*names, failed=states[at].failed)
    memory, profile = ends[at]
    against = rates.get(0, [])
    own, reference = states[at].output, states[0].output
    return Figure(
        *names,
        rates=tuple(rates[at]),
        ratios=tuple(
            ours / theirs for ours, theirs in zip(rates[at], against, strict=bool(against))
        ),
        required=contender.speed,
        memory=memory,
        memory_ratio=memory / ends[0][0] if ends.get(0, (0,))[0] else float("nan"),
        memory_limit=contender.memory,
        difference=_difference(own, reference),
        facts={**states[at].facts, **profile},
    )


def _difference(own: np.ndarray | None, reference: np.ndarray | None) -> float:
    if own is None or reference is None:
        return float("nan")
    return float(np.abs(own - reference).max())


class _State(NamedTuple):
    """What a team told when it was set up."""

    output: np.ndarray | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012
    failed: str = ""


@contextmanager
def _worker(prepare: Callable[[], Work]) -> Iterator[Connection]:
    """Gives the line to a process that sets the work up and waits."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare))
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()  # the process ends by itself once nobody listens
        process.join(timeout=5)
        if process.is_alive():
            process.terminate()
            process.join()


def _serve(line: Connection, prepare: Callable[[], Work]) -> None:
    """Sets the work up, then does it for as many seconds as it is told to, over and over."""
    memory = memory_from_now()
    try:
        begun = time.monotonic()
        work = prepare()
        took = time.monotonic() - begun
        line.send(_State(work.output, {**work.facts, "set_up_seconds": took}))
        while (seconds := line.recv()) is not None:
            line.send(_worked(work, seconds))
        taken = (work.memory or memory)()
        line.send((taken, work.profile() if work.profile else {}))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return  # the contest is over
    except Exception as error:  # whatever it is, the others go on
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        line.send(_State(failed=f"{type(error).__name__}: {reason}"))


def _worked(work: Work, seconds: float) -> tuple[int, float, float]:
    """Does the work for `seconds` or once; returns units, begin and end on the machine's clock."""
    begun, count = time.monotonic(), 0
    while not count or time.monotonic() - begun < seconds:
        work.run()
        count += work.units
    return count, begun, time.monotonic()


def _ready(team: Sequence[Connection]) -> _State:
    """Returns what the first of a team tells once all are set up."""
    answers: list[_State] = [_answer(line) for line in team]
    return next((one for one in answers if one.failed), answers[0])


def _turn(team: Sequence[Connection], seconds: float) -> float | str:
    """Returns the units a second that a team makes together, or why it failed."""
    for line in team:
        _tell(line, seconds)
    answers = [_answer(line) for line in team]
    if failed := [one.failed for one in answers if isinstance(one, _State)]:
        return failed[0]
    counts, begins, ends = zip(*answers, strict=True)
    return float(sum(counts) / (max(ends) - min(begins)))


def _ended(team: Sequence[Connection]) -> tuple[int, dict[str, float]]:
    """Returns the memory that a team took, and what a look into the first one's work shows."""
    for line in team:
        _tell(line, None)
    answers = [_answer(line) for line in team]
    good = [one for one in answers if not isinstance(one, _State)]
    return (sum(memory for memory, _ in good), good[0][1]) if good else (0, {})


def _tell(line: Connection, seconds: float | None) -> None:
    try:
        line.send(seconds)
    except OSError:
        return  # the answer will tell that it has ended


def _answer(line: Connection) -> Any:
    try:
        return line.recv()
    except (EOFError, OSError):
        return _State(failed="its process ended, out of memory perhaps")
