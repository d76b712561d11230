from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from pipelines.promotion import gates
from pipelines.promotion.gates import Errors

GOOD = Errors(10.0, (9.0, 11.0), 12.0, 20.0)


def observed(slots: int = 8) -> xr.DataArray:
    """Two channels of 9x9 cells; slot 5 and 6 of the day have the most flow, and row 0 has."""
    slot = np.arange(slots * 4).reshape(-1, 2) % slots
    values = np.ones((*slot.shape, 2, 9, 9))
    values[np.isin(slot, [5, 6])] *= 10
    values[..., 0, :] *= 100
    return xr.DataArray(
        values,
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={"slot": (("init_time", "lead_time"), slot)},
    )


def test_errors_by_hand() -> None:
    came = observed()
    off = np.zeros(came.shape)
    off[:, 1] = 2  # at the second lead, everywhere
    found = gates.errors(came.values + off, came)
    assert found.overall == pytest.approx(np.sqrt(2))
    assert found.leads == pytest.approx((0, 2))
    # Of the peak slots 5 and 6 one is of lead 2, as slots are odd there.
    assert found.peak == pytest.approx(np.sqrt(2))
    off[:] = 0
    off[..., 0, 0] = 3  # in one of the nine busiest cells
    assert gates.errors(came.values + off, came).busiest == pytest.approx(np.sqrt(9 / 50))


def test_a_candidate_must_be_below_every_baseline() -> None:
    found = gates.beats(GOOD, {"a": replace(GOOD, overall=10.1), "b": GOOD})
    assert [gate.passed for gate in found] == [True, False]
    assert not gates.beats(GOOD, {})[0].passed


def test_a_candidate_may_be_worse_by_what_is_tolerated_and_no_more() -> None:
    assert all(gate.passed for gate in gates.holds(GOOD, GOOD))
    for name, worse in (
        ("overall", replace(GOOD, overall=10.11)),
        ("lead 2", replace(GOOD, leads=(9.0, 11.3))),
        ("peak hours", replace(GOOD, peak=12.3)),
        ("busiest cells", replace(GOOD, busiest=20.5)),
    ):
        assert [gate.name for gate in gates.holds(worse, GOOD) if not gate.passed] == [name]
    assert all(gate.passed for gate in gates.holds(replace(GOOD, overall=10.09), GOOD))


def test_a_figure_that_is_missing_passes_no_gate() -> None:
    nan = Errors(np.nan, (np.nan, np.nan), np.nan, np.nan)
    found = [
        *gates.holds(nan, GOOD),
        *gates.beats(nan, {"a": GOOD}),
        *gates.beats(GOOD, {"a": nan}),
    ]
    found += [*gates.covers({0.8: np.nan}), gates.finite(np.array([1, np.nan]))]
    assert not any(gate.passed for gate in found)
    assert found[0].facts["value"] is None
    assert not gates.decide([])[0]


def test_bands_may_be_off_by_five_points() -> None:
    held = {0.5: 0.549, 0.8: 0.751, 0.95: 0.89}
    assert [gate.passed for gate in gates.covers(held)] == [True, True, False]


def test_the_verdict_names_the_first_gate_that_failed() -> None:
    passed = gates.finite(np.zeros(3))
    failed = gates.finite(np.array([np.inf, 0.0]))
    assert gates.decide([passed, failed, failed]) == (
        False,
        "finite: 1 of 2 values are no number, and 1 more",
    )
    assert gates.decide([passed])[0]


def test_the_verdict_of_a_first_champion_names_the_best_baseline() -> None:
    others = {
        name: replace(GOOD, overall=at) for name, at in (("a", 30.0), ("b", 11.0), ("c", 20.0))
    }
    good, reason = gates.decide([gates.finite(np.zeros(3)), *gates.beats(GOOD, others)])
    assert good
    assert "11.00 of the b" in reason


@pytest.mark.parametrize(
    ("windows", "days", "champion", "passed"),
    [
        (24, 2, True, True),
        (23, 2, True, False),  # too few windows
        (500, 1, True, False),  # of one day alone
        (2, 1, True, False),
        (2, 1, False, True),  # there is no champion to keep
    ],
)
def test_a_champion_is_not_replaced_on_few_windows_or_a_single_day(
    windows: int, days: int, champion: bool, passed: bool
) -> None:
    assert gates.enough(windows, days, champion).passed is passed


def test_a_first_champion_of_few_windows_says_so() -> None:
    good, reason = gates.decide(
        [gates.enough(2, 1, False), *gates.beats(GOOD, {"a": replace(GOOD, overall=11.0)})]
    )
    assert good
    assert "judged on 2 windows that begin on 1 days" in reason
    assert gates.notes([gates.enough(24, 2, False)]) == []


def test_versions_of_different_horizons_are_compared_on_the_leads_that_both_have() -> None:
    # RMSE of leads 1 and 2 together: sqrt((9 + 16) / 2) = 3.536; leads 3 and 4 of one do not count.
    long = Errors.of_metrics(
        {"lead 1": 3.0, "lead 2": 4.0, "lead 3": 90.0, "lead 4": 90.0, "all": 64.0}
    )
    short = Errors.of_metrics({"lead 1": 3.0, "lead 2": 4.0, "all": 12.5**0.5})
    for one, other in ((long, short), (short, long)):
        found = gates.holds(one, other)
        assert [gate.name for gate in found] == ["overall", "lead 1", "lead 2"]
        assert all(gate.passed for gate in found)
    worse = Errors.of_metrics({"lead 1": 3.0, "lead 2": 4.2, "all": 3.65})
    assert [gate.passed for gate in gates.holds(worse, long)] == [False, True, False]
