"""The formats, and the errors that name file and line."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from evaluation.files import BadFileError, read_labels, read_network, read_trace


def _file(folder: Path, text: str, name: str = "given.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_network_is_read_in_order_of_time_and_scaled(tmp_path: Path) -> None:
    network = read_network(_file(tmp_path, "b,a,-10,20\r\na,b,5,10.5\n\na,a,3,1\nb,a,10,30\n"))
    assert network.ratings == (("a", "b", 0.5, 10.5), ("b", "a", 1.0, 30.0))
    assert (network.scale, network.self_ratings, network.repeated_pairs) == (10.0, 1, 1)
    assert network.earliest_raters(1) == ["a"]
    assert len(network.sha256) == 64


@pytest.mark.parametrize(("rating", "scale"), [("1", 1.0), ("-4", 5.0), ("10", 10.0), ("55", 100.0), ("400", 400.0)])
def test_other_scales_are_divided_by_the_least_that_none_exceeds(tmp_path: Path, rating: str, scale: float) -> None:
    assert read_network(_file(tmp_path, f"a,b,{rating},1\n")).scale == scale


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,1,1\na,b,1\n", "line 2: must be source,target,rating,time"),
        ("a,b,good,1\n", "line 1: rating must be a number"),
        ("a,b,nan,1\n", "line 1: rating must be a number"),
        ("\n\na,b,1,late\n", "line 3: time must be a number"),
        ("", "holds no rating"),
        ("a,a,1,1\n", "holds no rating"),
    ],
)
def test_a_bad_network_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read_network(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,2\n", "line 1: must be node,label"),
        ("a,1\na,-1\n", "line 2: labels a otherwise"),
        ("a,1\nb,1\n", "at least one node benign and one fraudulent"),
    ],
)
def test_bad_labels_are_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read_labels(_file(tmp_path, text))


def test_labels_may_end_their_lines_either_way(tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, "a,1\r\nb,-1\n")) == {"a": False, "b": True}


def test_a_trace_is_read_compressed_and_its_times_are_joined(tmp_path: Path) -> None:
    text = "0 2 0 3600 3600 7200\n7 0\n8 2 100 200 50 60\n"
    plain = read_trace(_file(tmp_path, text, "t.avt"))
    packed = tmp_path / "t.avt.xz"
    packed.write_bytes(lzma.compress(text.encode()))
    zipped = tmp_path / "t.avt.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    assert [host.up for host in plain.hosts] == [((0, 7200),), (), ((50, 60), (100, 200))]
    assert read_trace(packed).hosts == plain.hosts == read_trace(zipped).hosts
    assert (plain.start, plain.end) == (0, 7200)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 1 0 1\n1 2 0 1\n", "line 2: says 2 pairs and holds 2 times"),
        ("0 1 9 5\n", "line 1: has a time that ends"),
        ("0 1 0 x\n", "line 1: a time must be a number"),
        ("0\n", "line 1: must be id, n"),
        ("0 0\n", "holds no time"),
    ],
)
def test_a_bad_trace_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadFileError, match=says):
        read_trace(_file(tmp_path, text, "t.avt"))


def test_what_is_not_what_its_name_says_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    for name in ("t.avt.xz", "t.avt.gz"):
        with pytest.raises(BadFileError):
            read_trace(_file(tmp_path, "0 1 0 1\n", name))
    with pytest.raises(BadFileError, match="No such file"):
        read_trace(tmp_path / "absent.avt")
    with pytest.raises(BadFileError):
        read_trace(tmp_path)
    (tmp_path / "bytes.avt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFileError, match="cannot be read further"):
        read_trace(tmp_path / "bytes.avt")
