import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa

from data.store.runs import LIVENESS_TIMEOUT, MAX_FAILURES
from data.store.schema import RUN
from data.store.store import Store

SLOT = np.datetime64("2026-03-08T02:00", "s")
SECOND, MINUTE = np.timedelta64(1, "s"), np.timedelta64(60, "s")
LIMIT = 600.0


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def test_a_slot_is_claimed_once_and_told_with_what_became_of_it(store: Store) -> None:
    claim = store.runs.claim("step", "toy", SLOT, SLOT + MINUTE, LIMIT)
    assert claim is not None and claim.attempt == 1
    assert store.runs.claim("step", "toy", SLOT, SLOT + MINUTE, LIMIT) is None
    store.runs.finish(claim, SLOT + 3 * MINUTE, "done", "all well", {"scored": 7})
    assert store.runs.claim("step", "toy", SLOT, SLOT + 900 * MINUTE, LIMIT) is None
    row = store.runs.table("toy").iloc[-1]
    assert (row["job"], row["outcome"], row["message"]) == ("step", "done", "all well")
    assert row["detail"] == {"scored": 7}
    assert (row["scheduled_for"], row["started_at"]) == (SLOT, SLOT + MINUTE)
    assert (row["ended_at"], row["attempt"]) == (SLOT + 3 * MINUTE, 1)


def test_each_job_city_and_slot_has_a_row_of_its_own(store: Store) -> None:
    keys = [("step", "toy", SLOT), ("nightly", "toy", SLOT), ("step", "b", SLOT)]
    keys.append(("step", "toy", SLOT + MINUTE))
    assert all(store.runs.claim(*key, SLOT, LIMIT) for key in keys)
    assert len(store.runs.table()) == 4
    assert [*store.runs.table("toy", "step")["scheduled_for"]] == [SLOT, SLOT + MINUTE]
    assert store.runs.newest("step", "toy") == SLOT + MINUTE
    assert store.runs.newest("other", "toy") is None


def test_what_failed_is_tried_again_some_times_in_the_same_row(store: Store) -> None:
    for attempt in range(1, MAX_FAILURES + 1):
        claim = store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
        assert claim is not None and claim.attempt == attempt
        store.runs.finish(claim, SLOT, "failed", "no space is left")
    assert store.runs.claim("step", "toy", SLOT, SLOT, LIMIT) is None
    assert len(store.runs.table()) == 1
    assert store.runs.outcome("step", "toy", SLOT) == "failed"
    assert store.runs.is_over("step", "toy", SLOT)
    assert not store.runs.is_over("step", "toy", SLOT + MINUTE)


def test_the_slot_of_a_process_that_died_is_taken_over(store: Store, database: str) -> None:
    code = """
import numpy as np
from data.store.store import Store
slot = np.datetime64("2026-03-08T02:00", "s")
assert Store().runs.claim("step", "toy", slot, slot, 600)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    assert store.runs.outcome("step", "toy", SLOT) == "running"
    claim = store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
    assert claim is not None and claim.attempt == 2
    assert len(store.runs.table()) == 1


def test_one_that_was_taken_over_cannot_close_the_row_of_the_other(store: Store) -> None:
    late = store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
    now = SLOT + np.timedelta64(int(LIMIT) + 1, "s")
    new = store.runs.claim("step", "toy", SLOT, now, LIMIT)
    assert late is not None and new is not None and new.attempt == 2
    store.runs.finish(late, now, "done")
    assert store.runs.outcome("step", "toy", SLOT) == "running"
    store.runs.finish(new, now, "done")
    assert store.runs.outcome("step", "toy", SLOT) == "done"


def test_a_run_of_another_host_is_alive_as_long_as_it_gives_life_signs(store: Store) -> None:
    night = 4 * 3600.0
    claim = store.runs.claim("nightly", "toy", SLOT, SLOT, night)
    assert claim is not None
    with store._database.write() as connection:
        connection.execute(sa.update(RUN).values(host="elsewhere", pid=2**22 + 1))
    assert store.runs.claim("nightly", "toy", SLOT, SLOT + LIVENESS_TIMEOUT * SECOND, night) is None
    store.runs.renew(claim, SLOT + LIVENESS_TIMEOUT * SECOND)
    assert (
        store.runs.claim("nightly", "toy", SLOT, SLOT + 2 * LIVENESS_TIMEOUT * SECOND, night)
        is None
    )
    later = SLOT + (2 * LIVENESS_TIMEOUT + 1) * SECOND
    assert store.runs.claim("nightly", "toy", SLOT, later, night) is not None
    store.runs.renew(claim, later)  # of one that was taken over; it changes nothing
    assert store.runs.table("toy")["attempt"].tolist() == [2]


def test_a_process_that_has_the_number_of_a_dead_one_is_another(store: Store) -> None:
    store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
    assert store.runs.claim("step", "toy", SLOT, SLOT, LIMIT) is None
    life = json.dumps({"began": 12345.0, "sign": 0})  # as in a container that was begun anew
    with store._database.write() as connection:
        connection.execute(sa.update(RUN).values(detail=life))
    assert store.runs.claim("step", "toy", SLOT, SLOT, LIMIT) is not None


def test_a_claim_that_is_given_back_is_due_again_and_no_failure(store: Store) -> None:
    for _ in range(2 * MAX_FAILURES):
        claim = store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
        assert claim is not None
        store.runs.release(claim, "the disk is full")
    for _ in range(MAX_FAILURES):
        assert not store.runs.is_over("step", "toy", SLOT)
        claim = store.runs.claim("step", "toy", SLOT, SLOT, LIMIT)
        assert claim is not None
        store.runs.finish(claim, SLOT, "failed", "a bug")
    assert store.runs.is_over("step", "toy", SLOT)


def test_an_arrival_that_failed_is_unfinished_until_a_step_is_done(store: Store) -> None:
    def unfinished() -> bool:
        return store.runs.is_unfinished("arrival", "toy", SLOT + MINUTE, LIMIT)

    assert not unfinished()
    claim = store.runs.claim("arrival", "toy", SLOT, SLOT, LIMIT)
    assert claim is not None and not unfinished()  # it is at work
    store.runs.finish(claim, SLOT + SECOND, "failed", "no space is left")
    assert unfinished()
    assert not store.runs.is_unfinished("arrival", "b", SLOT, LIMIT)
    step = store.runs.claim("step", "toy", SLOT, SLOT + MINUTE, LIMIT)
    assert step is not None and unfinished()
    store.runs.finish(step, SLOT + 2 * MINUTE, "done")
    assert not unfinished()


def test_skipped_slots_are_told_once_and_leave_what_was_done(store: Store) -> None:
    slots = SLOT + np.arange(5) * MINUTE
    done = store.runs.claim("step", "toy", slots[2], SLOT, LIMIT)
    assert done is not None
    store.runs.finish(done, SLOT, "done")
    assert store.runs.mark_skipped("step", "toy", slots, SLOT, "no scheduler ran") == 4
    assert store.runs.mark_skipped("step", "toy", slots, SLOT, "no scheduler ran") == 0
    assert [*store.runs.table("toy")["outcome"]] == [*["skipped"] * 2, "done", *["skipped"] * 2]
    # Where the clock was wrong their time may still come.
    claim = store.runs.claim("step", "toy", slots[4], SLOT, LIMIT)
    assert claim is not None and claim.attempt == 1


def test_of_many_that_claim_at_once_one_is_given_the_slot(store: Store) -> None:
    code = """
import sys, time
import numpy as np
from data.store.store import Store
store, slot = Store(), np.datetime64("2026-03-08T02:00", "s")
print("ready", flush=True)
sys.stdin.readline()
print(sum(store.runs.claim("step", "toy", slot + n, slot, 600) is not None for n in range(20)), flush=True)
sys.stdin.readline()
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 3
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        # None ends before all have claimed: the dead would be taken over.
        given = [int(worker.stdout.readline()) for worker in workers if worker.stdout]
    finally:
        for worker in workers:
            worker.communicate("\n", timeout=600)
    assert sum(given) == 20
    assert len(store.runs.table()) == 20
