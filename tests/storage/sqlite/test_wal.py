"""Our own reading of SQLite's log agrees with what SQLite itself takes from it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from registry_core.storage.sqlite.wal import WalReport, scan_wal

COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A database whose writer went away after six commits without tidying up: a copy of the files in use."""
    path = tmp_path / "live.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB)")
    for number in range(1, COMMITS):
        connection.execute("INSERT INTO t VALUES (?, zeroblob(3000))", (number,))
    copy = tmp_path / "killed.db"
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", wal_of(copy))
    connection.close()
    return copy


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def rows_that_sqlite_takes(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        connection.close()


def test_an_absent_log_holds_nothing(tmp_path: Path) -> None:
    assert scan_wal(tmp_path / "none-wal") == WalReport()


def test_a_whole_log_has_every_commit_and_no_tail(killed: Path) -> None:
    report = scan_wal(wal_of(killed))
    assert report.whole_commits == COMMITS
    assert not report.has_damaged_tail
    assert rows_that_sqlite_takes(killed) == COMMITS - 1


@pytest.mark.parametrize("back", [1, 2000, 4096, 9000])
def test_a_flipped_byte_ends_the_log_where_it_ends_for_sqlite(killed: Path, back: int) -> None:
    wal = wal_of(killed)
    content = bytearray(wal.read_bytes())
    content[-back] ^= 0x40
    wal.write_bytes(content)
    report = scan_wal(wal)
    assert report.has_damaged_tail
    assert report.whole_commits + report.commits_behind == COMMITS
    assert rows_that_sqlite_takes(killed) == report.whole_commits - 1


def test_a_log_cut_at_any_length_ends_where_it_ends_for_sqlite(killed: Path) -> None:
    content = wal_of(killed).read_bytes()
    for length in range(0, len(content), 1531):
        copy = killed.with_name("cut.db")
        shutil.copy(killed, copy)
        wal_of(copy).write_bytes(content[:length])
        report = scan_wal(wal_of(copy))
        if report.whole_commits == 0:
            continue  # the table itself was in the log
        assert rows_that_sqlite_takes(copy) == report.whole_commits - 1, length


def test_a_second_commit_behind_the_damage_was_surely_acknowledged(killed: Path) -> None:
    wal = wal_of(killed)
    content = bytearray(wal.read_bytes())
    content[-20000] ^= 1
    wal.write_bytes(content)
    report = scan_wal(wal)
    assert report.commits_surely_lost == report.commits_behind - 1 > 0


def test_what_an_earlier_generation_left_in_the_file_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "again.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB)")
    for number in range(20):
        connection.execute("INSERT INTO t VALUES (?, zeroblob(3000))", (number,))
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (99, NULL)")
    report = scan_wal(wal_of(path))
    connection.close()
    assert report.whole_commits == 1
    assert not report.has_damaged_tail


def test_a_damaged_header_makes_the_whole_log_a_damaged_tail(killed: Path) -> None:
    wal = wal_of(killed)
    content = bytearray(wal.read_bytes())
    content[20] ^= 1
    wal.write_bytes(content)
    assert scan_wal(wal) == WalReport(header_damaged=True)


def test_a_frame_whose_salts_are_damaged_is_no_leftover(killed: Path) -> None:
    wal = wal_of(killed)
    content = bytearray(wal.read_bytes())
    content[32 + 24 + 4096 + 9] ^= 1  # of the second frame
    wal.write_bytes(content)
    report = scan_wal(wal)
    assert report.has_damaged_tail
    assert report.commits_surely_lost
    assert report.whole_commits + report.commits_behind == COMMITS
