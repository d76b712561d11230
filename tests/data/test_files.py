import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import FlowcastError
from data.files import atomic_write, exclusive_lock, sha256


def test_a_file_takes_its_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.csv"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert [file.name for file in path.parent.iterdir()] == ["report.csv"]


def test_an_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half of")
        raise error
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.csv"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, small_files: None
) -> None:
    path = tmp_path / "report.csv"
    path.write_text("old")
    with (
        pytest.raises(FlowcastError, match=r"report\.csv cannot be written \(File too large\)"),
        atomic_write(path) as temporary,
    ):
        temporary.write_bytes(bytes(10**6))
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.csv"]


def test_a_folder_or_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "folder", tmp_path / "file" / "report.csv"):
        with pytest.raises(FlowcastError, match="cannot be"), atomic_write(path) as temporary:
            temporary.write_text("new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("all of it")
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "flow.h5"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3 * 10**6))
    assert sha256(path) == hashlib.sha256(bytes(3 * 10**6)).hexdigest()


def test_only_one_goes_in_at_a_time_and_lets_go_at_the_end(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "folder" / ".lock"
    with exclusive_lock(lock, "another one is at work"):
        sentence = "^another one is at work; wait for it, or end it first$"
        with (
            pytest.raises(FlowcastError, match=sentence),
            exclusive_lock(lock, "another one is at work"),
        ):
            raise AssertionError("two are in")
        with exclusive_lock(tmp_path / ".other", "another one is at work"):
            pass
    with pytest.raises(KeyError), exclusive_lock(lock, "another one is at work"):
        raise KeyError
    with exclusive_lock(lock, "another one is at work"):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from data.files import exclusive_lock

with exclusive_lock(Path(sys.argv[1]), "taken"):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(FlowcastError, match="taken"), exclusive_lock(lock, "taken"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with exclusive_lock(lock, "taken"):
            pass
