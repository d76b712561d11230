"""Cases of speed. Their processes import this file, and so it needs no torch."""

import math
import time
from functools import partial

import numpy as np
import pytest

from pipelines.benchmark.speed.harness import Case, Variant, Work, measure_case


def sleep(seconds: float, output: float) -> Work:
    return Work(
        lambda: time.sleep(seconds), 3, np.asarray([1.0, output]), lambda: int(100 * output)
    )


def fail(when: str) -> Work:
    if when == "set up":
        raise ValueError("no such thing\nmore")

    def run() -> None:
        raise ValueError("no such work")

    return Work(run)


def test_a_case_gives_each_its_rates_ratios_memory_and_difference() -> None:
    variants = (
        Variant("slow", partial(sleep, 0.04, 1.0)),
        Variant("fast", partial(sleep, 0.01, 1.5), speed=2.0, memory=0.5),
        Variant("two", partial(sleep, 0.04, 1.0), workers=2),
        Variant("unable", partial(fail, "set up")),
        Variant("broken", partial(fail, "run")),
    )
    figures = measure_case(Case("part", "case", "things", variants), rounds=3, seconds=0.05)
    slow, fast, two, unable, broken = figures
    assert [one.variant for one in figures] == ["slow", "fast", "two", "unable", "broken"]
    assert len(slow.rates) == len(fast.ratios) == 3
    assert slow.ratios == (1.0, 1.0, 1.0)
    for one in (fast, two):
        assert one.ratios == pytest.approx(
            [a / b for a, b in zip(one.rates, slow.rates, strict=True)]
        )
    # A sleep is never shorter than asked for: 3 units in 0.04 s are 75 a second at most.
    assert 0 < slow.rate <= 75
    assert 0 < two.rate <= 150
    assert (slow.difference, fast.difference) == (0, 0.5)
    assert (slow.memory, fast.memory, two.memory) == (100, 150, 200)
    assert fast.memory_ratio == 1.5
    assert unable.failed == "ValueError: no such thing"
    assert broken.failed == "ValueError: no such work"
    assert math.isnan(broken.rate) and not broken.rates
