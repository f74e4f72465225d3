from __future__ import annotations

from pathlib import Path

import pytest

from mien.engines.errors import VideoError
from mien.runtime.whole_file import copy_whole, write_whole


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jpg"
    write_whole(path, b"one")
    with pytest.raises(VideoError, match="--overwrite"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    write_whole(path, b"two", overwrite=True)
    assert path.read_bytes() == b"two"
    with pytest.raises(VideoError, match="cannot write"):
        write_whole(tmp_path / "no folder" / "out.jpg", b"one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jpg"]


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"one")
    copy_whole(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"one"
    with pytest.raises(VideoError, match="cannot write"):
        copy_whole(tmp_path / "none", tmp_path / "other")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "out"]
