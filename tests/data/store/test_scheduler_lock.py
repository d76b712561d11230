import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from data.store.store import Store

HOLDS = """
import sys
from data.store.store import Store
with Store().scheduler_lock() as held:
    print("held" if held else "free", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@pytest.fixture
def other(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_one_process_holds_it_and_lets_go_at_the_end(
    store: Store, other: subprocess.Popen[str]
) -> None:
    with store.scheduler_lock() as held:
        assert held is None
    other.communicate("\n", timeout=600)
    with store.scheduler_lock() as held:
        assert held is not None and held.is_held()


def test_a_process_that_is_killed_lets_go_of_it(store: Store, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    for _ in range(100):  # the server notices soon, not at once
        with store.scheduler_lock() as held:
            if held is not None:
                return
    pytest.fail("a dead process holds the lock")


def test_one_whose_connection_was_cut_knows_that_it_holds_nothing(postgresql: str) -> None:
    engine = sa.create_engine(f"{postgresql}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS cut"))
        connection.execute(sa.text("CREATE DATABASE cut"))
    store = Store(f"{postgresql}/cut")
    with store.scheduler_lock() as held:
        assert held is not None and held.is_held()
        with engine.connect() as connection:
            ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'cut'"
            connection.execute(sa.text(ends))
        assert not held.is_held()
    store.close()
    engine.dispose()
