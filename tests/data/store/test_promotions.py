from collections.abc import Iterator

import numpy as np
import pytest

from data.city import City
from data.store.drift import Drift
from data.store.store import Store

CITY = City("toy", "Toy", "Europe/Berlin", np.timedelta64(3600, "s"), (2, 3))
NOW = np.datetime64("2026-01-02T03:00", "s")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def test_a_promotion_and_its_judgement_are_one(store: Store) -> None:
    promotions = store.promotions
    assert promotions.previous(CITY) is None
    promotions.decide(
        CITY, "v1", "promoted", "beats the historical average", NOW, {"finite": [True]}
    )
    promotions.decide(CITY, "v2", "refused", "worse at peak hours", NOW)
    assert (promotions.champion(CITY), promotions.previous(CITY)) == ("v1", None)
    promotions.decide(CITY, "v3", "promoted", "better", NOW)
    assert (promotions.champion(CITY), promotions.previous(CITY)) == ("v3", "v1")
    promotions.decide(CITY, "v1", "rolled back", "live error", NOW)
    # What was rolled back is none to go back to, until somebody promotes it all the same.
    assert (promotions.champion(CITY), promotions.previous(CITY)) == ("v1", None)
    table = promotions.decisions(CITY)
    assert [*table["verdict"]] == ["promoted", "refused", "promoted", "rolled back"]
    assert [*table["champion"]] == ["", "v1", "v1", "v3"]
    assert table["gates"][0] == {"finite": [True]}
    assert [*store.promotions.table(CITY)["version"]] == ["v1", "v3", "v1"]
    promotions.decide(CITY, "v3", "promoted", "by hand", NOW)
    promotions.decide(CITY, "v4", "promoted", "better", NOW)
    assert promotions.previous(CITY) == "v3"


def test_who_was_judged_against_a_former_champion_takes_nobodys_place(store: Store) -> None:
    promotions = store.promotions
    promotions.decide(CITY, "v1", "promoted", "first", NOW)
    promotions.decide(CITY, "v2", "promoted", "by hand, meanwhile", NOW)
    against_first = {"instead_of": ("v1", "another champion")}
    assert not promotions.decide(CITY, "v3", "promoted", "better", NOW, **against_first)
    assert store.promotions.champion(CITY) == "v2"
    last = promotions.decisions(CITY).iloc[-1]
    assert (last["verdict"], last["reason"]) == ("refused", "another champion")
    assert promotions.decide(CITY, "v4", "promoted", "better", NOW, instead_of=("v2", ""))
    assert store.promotions.champion(CITY) == "v4"


def test_the_champion_judged_again_is_promoted_once(store: Store) -> None:
    for _ in range(2):
        store.promotions.decide(CITY, "v1", "promoted", "by hand", NOW)
    assert len(store.promotions.table(CITY)) == 1
    assert len(store.promotions.decisions(CITY)) == 2


def test_drift_of_a_time_is_replaced_and_the_newest_come(store: Store) -> None:
    hours = [NOW + np.timedelta64(n, "h") for n in range(3)]
    for hour in hours:
        store.drifts.add(CITY, Drift(hour, 9.0, 10.0, None, 2.5, False, ""))
    store.drifts.add(CITY, Drift(hours[-1], 3.0, 10.0, 5.0, 2.5, True, "too few"))
    table = store.drifts.table(CITY, last=2)
    assert [*table["time"]] == hours[1:]
    assert [*table["flagged"]] == [False, True]
    assert [*table["total"]] == [9, 3]
    assert np.isnan(table["error"].astype(float)[0]) and table["error"][1] == 5


def test_the_newest_heartbeat_counts(store: Store) -> None:
    assert store.heartbeats.newest("scheduler") is None
    store.heartbeats.beat("scheduler", NOW, {"cities": ["toy"]})
    store.heartbeats.beat("scheduler", NOW + 1, {"cities": ["toy", "b"]})
    newest = store.heartbeats.newest("scheduler")
    assert newest is not None
    assert (newest["at"], newest["detail"]) == (NOW + 1, {"cities": ["toy", "b"]})
