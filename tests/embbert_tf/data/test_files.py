"""Files written in one step, and what is said where they cannot be."""

import errno
import os
import re

import pytest

from embbert_tf import errors
from embbert_tf.data import csv_files, examples, files


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old\r\nü")
    assert path.read_bytes() == "old\r\nü".encode()

    def fails(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(errors.FileError, match=re.escape(f"{path}: cannot be written (No space")):
        files.write_atomic(path, fails)
    with pytest.raises(KeyError):
        files.write_atomic(path, lambda temporary: {}["a bug of ours"])
    assert path.read_bytes() == "old\r\nü".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "target").mkdir()
    path, link = tmp_path / "target" / "a.json", tmp_path / "link.json"
    files.write_json(path, {"a": 1})
    link.symlink_to(path)
    files.write_json(link, {"a": 2})
    assert link.is_symlink() and files.read_json(path) == {"a": 2}


def test_places_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(errors.FileError, match="is a folder; give the name of a file"):
        files.write_text(tmp_path, "")
    with pytest.raises(errors.FileError, match=r"there is no folder .*none; make it first"):
        files.write_text(tmp_path / "none" / "a.txt", "")
    with pytest.raises(errors.FileError, match="/dev/null: is no regular file"):
        files.write_text("/dev/null", "")
    (tmp_path / "file").write_text("")
    for use in (files.check_folder, files.make_folder):
        with pytest.raises(errors.FileError, match="file"):
            use(tmp_path / "file" / "below")
        assert not (tmp_path / "file").is_dir()
    files.check_folder(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
    assert files.make_folder(tmp_path / "new" / "below").is_dir()


@pytest.mark.parametrize("read", [files.sha256, files.read_bytes])
def test_a_file_that_cannot_be_read_is_named(tmp_path, read):
    with pytest.raises(errors.FileError, match=r"none\.csv: cannot be opened \(No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(errors.FileError, match="cannot be opened"):
        files.copy(tmp_path / "none.csv", tmp_path / "other.csv")


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(errors.RunError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("pair", [None, 'a "second", text'])
def test_rows_come_back_as_they_were_written(tmp_path, pair):
    rows = [
        examples.Example("a, b", pair, "x"),
        examples.Example('"quoted"\nand two lines', pair, "y;z"),
        examples.Example("one\rtext", pair, "3.5"),
    ]
    examples.write_csv(tmp_path / "a.csv", rows)
    read = examples.read_all(tmp_path / "a.csv", pair is not None)
    assert read == rows
    assert [row.line for row in read] == [2, 3, 5]
    csv_files.write_rows(tmp_path / "b.csv", ["n", "text"], [(1, "a,b")])
    assert [row for _, row in csv_files.read_rows(tmp_path / "b.csv")] == [
        ["n", "text"],
        ["1", "a,b"],
    ]
