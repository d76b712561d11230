"""How the runs of a contest are made: those that train in processes of their own, some at a time.

Each computes with one thread, so that all have the same, whatever library does it.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

import torch
import xarray as xr

from data.errors import FlowcastError
from forecasting.profiling.machine import cores
from forecasting.profiling.memory import available_memory
from pipelines.compare.contestants import Archive, Plan, Run
from pipelines.compare.run import make, read

BASE, COPIES = 2**30, 12
"""Bytes that a run takes at most: so many, and so many times the flow."""


@dataclass(frozen=True)
class Began:
    """A run has begun: `number` of the `count` that are to be made."""

    label: str
    number: int
    count: int


@dataclass(frozen=True)
class Ended:
    """A run is over.

    Attributes:
        label: of the run.
        done: runs that are over, of the `count` that were to be made.
        count: of them.
        left: seconds that the others are likely to take.
        seconds: that fitting took.
        validation: RMSE of its selection on the validation span, vehicles, over all leads.
        failed: why there is nothing of it, "" where there is.
    """

    label: str
    done: int
    count: int
    left: float
    seconds: float = float("nan")
    validation: float = float("nan")
    failed: str = ""


def jobs_that_fit(flow: xr.DataArray) -> int:
    """Returns how many runs on a flow can be made at a time: by the cores, and by the memory."""
    memory = available_memory()
    if memory is None:
        return cores()
    return max(1, min(cores(), memory // (BASE + COPIES * flow.nbytes)))


class _Worker(NamedTuple):
    """A process that makes a run, and where it tells why it cannot."""

    process: SpawnProcess
    line: Connection


def made(
    archive: Archive, runs: Mapping[Run, Path], plan: Plan, jobs: int
) -> Iterator[Began | Ended]:
    """Makes runs, each into its file; those under way end where this ends early.

    Args:
        archive: of the city.
        runs: with the paths of their files.
        plan: of the contest.
        jobs: runs at a time.
    """
    count = len(runs)
    quick = [run for run in runs if not run.contestant.maker.chance]
    for done, run in enumerate(quick, start=1):
        yield Began(run.label, done, count)
        reason = _attempt(archive, run, plan, runs[run])
        yield _ended(
            run, Ended(run.label, done, count, float("nan")), reason, archive.flow, runs[run]
        )
    trained = {run: path for run, path in runs.items() if run not in quick}
    for event in _side_by_side(archive, trained, plan, jobs):
        match event:
            case Began():
                yield replace(event, number=len(quick) + event.number, count=count)
            case Ended():
                yield replace(event, done=len(quick) + event.done, count=count)


def _side_by_side(
    archive: Archive, runs: Mapping[Run, Path], plan: Plan, jobs: int
) -> Iterator[Began | Ended]:
    """Makes runs in processes of their own, some at a time."""
    waiting, began, count = list(runs), time.monotonic(), len(runs)
    working: dict[Run, _Worker] = {}
    done = 0
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                run = waiting.pop(0)
                working[run] = _start(archive, run, plan, runs[run])
                yield Began(run.label, count - len(waiting), count)
            wait([worker.process.sentinel for worker in working.values()])
            for run in [run for run, one in working.items() if not one.process.is_alive()]:
                done += 1
                left = (time.monotonic() - began) / done * (count - done)
                reason = _reason(working.pop(run))
                yield _ended(
                    run, Ended(run.label, done, count, left), reason, archive.flow, runs[run]
                )
    finally:
        for worker in working.values():
            worker.process.terminate()
            worker.process.join()
            worker.line.close()


def _start(archive: Archive, run: Run, plan: Plan, path: Path) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, archive, run, plan, path), daemon=True)
    with _one_thread():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _reason(worker: _Worker) -> str:
    """Returns what an ended process told, or how it ended."""
    worker.process.join()
    try:
        return str(worker.line.recv())
    except EOFError:
        code = worker.process.exitcode
        return f"its process ended with {code}, out of memory perhaps; go on with --jobs 1"
    finally:
        worker.line.close()


def _ended(run: Run, ended: Ended, reason: str, flow: xr.DataArray, path: Path) -> Ended:
    kept = read(path, flow)
    if kept is None:
        return replace(ended, failed=reason)
    error = kept.facts["validation"].get("all", float("nan"))
    return replace(ended, seconds=kept.facts["seconds"], validation=error)


def _work(line: Connection, archive: Archive, run: Run, plan: Plan, path: Path) -> None:
    """Makes a run in a process of its own, which ends with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the contest ends its runs by itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if reason := _attempt(archive, run, plan, path):
        line.send(reason)


def _attempt(archive: Archive, run: Run, plan: Plan, path: Path) -> str:
    """Makes a run; returns why it cannot be made, "" where it was."""
    try:
        make(archive, run, plan, path)
    except FlowcastError as error:
        return str(error)
    except Exception as error:  # whatever it is, the others go on
        return f"{type(error).__name__}: {error}"
    return ""


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets processes that are started meanwhile compute with one thread, whatever library does."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
