"""The parts of the benchmark of speed: which ways compete at which work, and what is required."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from data.errors import FlowcastError
from forecasting.training.hardware import Computing
from pipelines.benchmark.speed import cases_evaluate as evaluating
from pipelines.benchmark.speed import cases_start as starting
from pipelines.benchmark.speed import cases_windows as feeding
from pipelines.benchmark.speed.cases_networks import (
    CASES,
    TINY,
    Setting,
    forecast_by_onnx,
    forecast_by_reference,
    forecast_by_torch,
    train_ours,
    train_reference,
)
from pipelines.benchmark.speed.harness import Contender, Contest

REFERENCE = "reference, float32"
PAIR, IN_PAIRS = 2, " (2 workers of 1 thread)"
FORECASTS: dict[tuple[str, int, str, int], float] = {
    ("p4w8", 1, "float32", 1): 2.2,
    ("p4w8", 1, "int8", 1): 3.2,
    ("p2w4", 1, "float32", 1): 1.5,
    ("p2w4", 1, "int8", 1): 2.5,
    ("p2w4", 16, "float32", 2): 1.8,
    ("p2w4", 16, "int8", 2): 2.5,
}
"""Times the reference's speed that a forecast must have: by case, batch, precision and workers."""


@dataclass(frozen=True)
class SpeedPlan:
    """What is measured.

    Attributes:
        parts: keys in `PARTS`; all if empty.
        cases: keys in `CASES`; all if empty.
        rounds: that count.
        seconds: for which each way works at least in a round.
        device: `cpu` or `cuda`: of forecasting and training by torch.
        threads: of the CPU.
        quick: whether everything is tiny: a first look, and no figure to quote.
    """

    parts: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    rounds: int = 7
    seconds: float = 0.5
    device: str = "cpu"
    threads: int = 2
    quick: bool = False

    def __post_init__(self) -> None:
        for what, chosen, known in (("part", self.parts, PARTS), ("case", self.cases, CASES)):
            if unknown := [name for name in chosen if name not in known]:
                raise FlowcastError(
                    f"there is no {what} {unknown[0]!r}; there is {', '.join(known)}"
                )

    def contests(self) -> Iterator[Contest]:
        """Yields the contests of all parts; of tiny work nothing is required."""
        for part in self.parts or PARTS:
            for contest in PARTS[part](self):
                free = [replace(one, speed=None, memory=None) for one in contest.contenders]
                yield replace(contest, contenders=free) if self.quick else contest

    def settings(self, *batches: int) -> Iterator[tuple[str, Setting]]:
        """Yields each case with each batch; where all is tiny, the last case with the first."""
        cases = self.cases or tuple(CASES)
        for case in cases[-1:] if self.quick else cases:
            sizes = CASES[case]._replace(**TINY) if self.quick else CASES[case]
            for batch in batches[:1] if self.quick else batches:
                yield case, Setting(sizes, batch, self.device, self.threads)


def forecasts(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields contests of forecasting, 4 frames from 4."""
    for case, setting in plan.settings(1, 16):
        contenders = [
            Contender(REFERENCE, partial(forecast_by_reference, setting)),
            Contender("torch, float32", partial(forecast_by_torch, setting)),
        ]
        if plan.device == "cpu":
            contenders += _on_cpu(case, setting, 1)
        if plan.device == "cpu" and (setting.batch > 1 or plan.quick):
            alone = setting._replace(threads=1)
            by_reference = partial(forecast_by_reference, alone)
            contenders.append(Contender(f"{REFERENCE}{IN_PAIRS}", by_reference, PAIR))
            contenders += _on_cpu(case, alone, PAIR)
        yield Contest("forecast", _name(case, setting), "sequences", contenders)


def _on_cpu(case: str, setting: Setting, workers: int) -> Iterator[Contender]:
    """Yields the ways of ONNX Runtime."""
    for precision in ("float32", "int8"):
        yield Contender(
            f"ONNX Runtime, {precision}{IN_PAIRS * (workers == PAIR)}",
            partial(forecast_by_onnx, setting, precision),
            workers,
            FORECASTS.get((case, setting.batch, precision, workers)),
        )


def trainings(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields contests of training, 4 frames from 4: a step with its update of the weights."""
    batches = (16, 64) if plan.device == "cuda" else (16,)
    low, least = Computing(precision="bfloat16"), 1.5 if plan.device == "cpu" else 8.0
    ways = {
        "ours, float32": Computing(),
        "ours, bfloat16": low,
        "ours, bfloat16, recomputed": replace(low, recompute=True),
        "ours, bfloat16, compiled": replace(low, compiled=True),
    }
    if plan.quick:
        ways.popitem()  # a minute to compile
    for case, setting in plan.settings(*batches):
        demanded = case == "p2w4"
        must = {"ours, bfloat16" if plan.device == "cpu" else "ours, bfloat16, compiled"}
        contenders = [Contender(REFERENCE, partial(train_reference, setting))]
        for name, computing in ways.items():
            speed, memory = (least, 0.6) if demanded and name in must else (None, None)
            work = partial(train_ours, setting, computing)
            contenders.append(Contender(name, work, speed=speed, memory=memory))
        yield Contest("training", _name(case, setting), "sequences", contenders)


def starts(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields the contest of cold processes, from their command to the first forecast."""
    for case, setting in plan.settings(1):
        contenders = (
            Contender(REFERENCE, partial(starting.start_reference, setting.sizes)),
            Contender("ONNX Runtime, float32", partial(starting.start_onnx, setting.sizes)),
        )
        yield Contest("start", f"{case}, from command to forecast", "starts", contenders)


def feeds(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields contests of feeding windows of 4 + 4 frames in random order."""
    archive = _archive(plan)
    for batch in (16,) if plan.quick else (16, 64):
        loader = partial(feeding.feed_by_loader, archive, batch)
        contenders = (
            Contender("DataLoader, 2 worker processes", partial(loader, workers=2)),
            Contender("DataLoader, none", partial(loader, workers=0)),
            Contender("ours", partial(feeding.feed_by_index, archive, batch), speed=15.0),
        )
        yield Contest("feed", f"{_size(archive)}, batch {batch}", "windows", contenders)


def preparations(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields the contest of making windows of an archive."""
    archive = _archive(plan)
    contenders = (
        Contender("window by window", partial(feeding.prepare_one_by_one, archive)),
        Contender("ours", partial(feeding.prepare_by_position, archive), speed=20.0, memory=0.1),
    )
    yield Contest("prepare", _size(archive), "slots", contenders)


def evaluations(plan: SpeedPlan) -> Iterator[Contest]:
    """Yields the contest of judging a city's champion."""
    side = 8 if plan.quick else 32
    contenders = (
        Contender(
            "one forecast of the pipeline after the other",
            partial(evaluating.one_command_a_window, side),
        ),
        Contender("one window after the other", partial(evaluating.one_window, side)),
        Contender("stacks of windows", partial(evaluating.in_stacks, side)),
        Contender("forecast evaluate", partial(evaluating.by_evaluate, side), speed=10.0),
    )
    yield Contest("evaluate", f"a city of {side}x{side} cells", "windows", contenders)


PARTS: dict[str, Callable[[SpeedPlan], Iterator[Contest]]] = {
    "forecast": forecasts,
    "training": trainings,
    "start": starts,
    "feed": feeds,
    "prepare": preparations,
    "evaluate": evaluations,
}
"""The parts by name, each as what yields its contests."""


def _name(case: str, setting: Setting) -> str:
    return f"{case}, batch {setting.batch}"


def _archive(plan: SpeedPlan) -> feeding.Archive:
    return feeding.Archive(600, 8, 100) if plan.quick else feeding.Archive()


def _size(archive: feeding.Archive) -> str:
    return f"{archive.slots:,} slots of 2x{archive.side}x{archive.side}"
