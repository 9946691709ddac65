import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting import files
from forecasting.errors import CheckpointError
from forecasting.files import (
    atomic,
    read_json,
    reading,
    remove_partials,
    sha256_of,
    write_folder,
    write_json,
    write_parquet,
    write_text,
)


def names(folder):
    return sorted(file.name for file in folder.rglob("*"))


@pytest.mark.parametrize("fault", [RuntimeError("bug"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_when_writing_fails_then_the_old_file_stays_and_nothing_else(tmp_path, fault):
    file = tmp_path / "kept.txt"
    write_text(file, "old")
    with pytest.raises(type(fault)), atomic(file) as partial:
        partial.write_text("half of the new")
        raise fault
    assert file.read_text() == "old"
    assert names(tmp_path) == ["kept.txt"]


def test_the_file_is_not_in_place_before_it_is_whole(tmp_path):
    file = tmp_path / "deep" / "new.txt"
    with atomic(file) as partial:
        partial.write_text("text")
        assert not file.exists()
        assert partial.parent == file.parent  # a rename across disks would copy
    assert file.read_text() == "text"


WRITERS = {
    "json": lambda file, content: write_json(file, {"content": content}),
    "text": write_text,
    "parquet": lambda file, content: write_parquet(file, pd.DataFrame({"content": [content]})),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_when_the_disk_is_full_then_every_writer_keeps_the_old_file(tmp_path, monkeypatch, kind):
    """The disk fills up while the bytes are flushed, where a real disk may also say so first."""
    file = tmp_path / "file"
    WRITERS[kind](file, "old")
    before = file.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        WRITERS[kind](file, "new and longer")
    assert file.read_bytes() == before
    assert names(tmp_path) == ["file"]


def test_when_the_disk_is_full_in_the_middle_of_a_write_then_the_old_file_stays(tmp_path, monkeypatch):
    write_json(tmp_path / "run.json", {"status": "old"})
    real = Path.write_text

    def half(self, text, **options):
        real(self, text[: len(text) // 2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "run.json", {"status": "new"})
    assert read_json(tmp_path / "run.json") == {"status": "old"}
    assert names(tmp_path) == ["run.json"]


def test_written_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "file", "x")
    write_folder(tmp_path / "folder", lambda partial: None)
    (tmp_path / "plain-folder").mkdir()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain-folder").stat().st_mode


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    write_folder(tmp_path / "out", lambda partial: write_text(partial / "a", "1"))
    write_folder(tmp_path / "out", lambda partial: write_text(partial / "b", "2"))
    assert names(tmp_path) == ["b", "out"]


@pytest.mark.parametrize("fault", [RuntimeError("bug"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_when_filling_a_folder_fails_then_the_old_one_stays(tmp_path, fault):
    write_folder(tmp_path / "out", lambda partial: write_text(partial / "a", "old"))

    def fill(partial):
        write_text(partial / "a", "new")
        raise fault

    with pytest.raises(type(fault)):
        write_folder(tmp_path / "out", fill)
    assert names(tmp_path) == ["a", "out"]
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_when_a_folder_cannot_be_flushed_then_the_old_one_stays(tmp_path, monkeypatch):
    write_folder(tmp_path / "out", lambda partial: (partial / "a").write_text("old"))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "out", lambda partial: (partial / "a").write_text("new"))
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert names(tmp_path) == ["a", "out"]


def test_a_kill_while_replacing_never_leaves_half_a_folder(tmp_path, monkeypatch):
    """The old folder has two files; at no moment that a kill could freeze does `out` hold only one of them."""

    def fill(text):
        def both(partial):
            for name in ("a", "b"):
                (partial / name).write_text(text)

        return both

    write_folder(tmp_path / "out", fill("old"))
    seen, real = [], os.unlink

    def watching(*args, **options):
        seen.append(names(tmp_path / "out") if (tmp_path / "out").exists() else [])
        return real(*args, **options)

    monkeypatch.setattr(os, "unlink", watching)
    write_folder(tmp_path / "out", fill("new"))
    assert seen
    assert all(state in ([], ["a", "b"]) for state in seen)


def test_partials_are_removed_however_deep_and_nothing_else(tmp_path):
    inside = tmp_path / "run" / f"{files.PARTIAL}folder" / "x" / f"{files.PARTIAL}deep"
    inside.mkdir(parents=True)
    (inside / "file").touch()
    (tmp_path / "run" / f"{files.PARTIAL}file.json").touch()
    write_text(tmp_path / "run" / "kept.json", "{}")
    remove_partials(tmp_path)
    assert names(tmp_path) == ["kept.json", "run"]


def test_json_has_no_nan_and_is_sorted(tmp_path):
    value = {
        "b": [float("nan"), float("inf"), np.float32(0.5), np.int64(3), np.bool_(True)],
        "a": np.array([[1.0, np.nan]]),
        "when": np.datetime64("2020-01-02T03:04:05", "ns"),
        "times": np.array(["2020-01-02"], dtype="datetime64[ns]"),
        1: None,
        "where": tmp_path,
    }
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert "NaN" not in text
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == {
        "1": None,
        "a": [[1.0, None]],
        "b": [None, None, 0.5, 3, True],
        "times": ["2020-01-02T00:00:00.000000000"],
        "when": "2020-01-02T03:04:05.000000000",
        "where": str(tmp_path),
    }
    assert list(found) == sorted(found)
    assert text.endswith("}\n")


def test_text_has_unix_line_ends(tmp_path):
    write_text(tmp_path / "x", "a\nä\n")
    assert (tmp_path / "x").read_bytes() == "a\nä\n".encode()


def test_a_parquet_round_trip(tmp_path):
    table = pd.DataFrame({"t": pd.DatetimeIndex(["2020-01-01"], tz="UTC"), "x": [np.nan]}, index=[7])
    write_parquet(tmp_path / "x.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), table.reset_index(drop=True))


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    wanted = hashlib.sha256(b"abc").hexdigest()
    assert sha256_of(b"abc") == sha256_of("abc") == sha256_of(tmp_path / "x") == sha256_of("a", b"bc") == wanted


def test_sha256_of_arrays_tells_shape_type_and_values_apart_but_not_layout():
    values = np.arange(6.0)
    square = values.reshape(2, 3)
    hashes = {sha256_of(a) for a in (values, square, square.T, values.astype(np.float32), values + 1)}
    assert len(hashes) == 5
    assert sha256_of(np.asfortranarray(square)) == sha256_of(square)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (FileNotFoundError(2, "no"), r"model.json is missing; do this"),
        (ValueError("first\nsecond"), r"model.json cannot be read \(first\); do this"),
        (KeyError(), r"model.json cannot be read \(KeyError\); do this"),
    ],
)
def test_reading_turns_any_fault_into_one_line(tmp_path, fault, said):
    with pytest.raises(CheckpointError, match=said) as caught, reading(tmp_path / "model.json", "do this"):
        raise fault
    assert "\n" not in str(caught.value)


def test_reading_lets_an_interrupt_through(tmp_path):
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "x", "do this"):
        raise KeyboardInterrupt
