"""Addresses of streams: what is shown of them, and what becomes of them in the place of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.engines.errors import UsageError
from mien.engines.system.addresses import address_of, check_files, is_address, shown_address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:word@cam.example:554/a?key=word", "rtsp://cam.example:554/a"),
        ("RTMP://me@cam/live/a#word", "rtmp://cam/live/a"),
        ("srt://cam:9000?passphrase=word", "srt://cam:9000"),
        ("http://[::1]:80/x?word", "http://[::1]:80/x"),
        ("rtsp://cam/@me/live", "rtsp://cam/@me/live"),
        ("http://cam/a?back=http://me:word@cam/", "http://cam/a"),
        # Addresses that nobody can read.
        ("rtsp://me:wo/rd@cam/x", "rtsp://cam/x"),
        ("rtsp://me:wo?rd@cam/x", "rtsp://cam/x"),
        ("rtsp://me:p@ss:wo/rd@cam/x", "rtsp://cam/x"),
        ("http://me:word@[bad/x", "http://[bad/x"),
        ("rtsp://me:word", "rtsp://..."),
        ("clip.mp4", "clip.mp4"),
        ("-", "standard input"),
    ],
)
def test_passwords_and_keys_are_not_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown


@pytest.mark.parametrize("address", ["rtsp://cam/x", "http://cam:80/a/b.mp4", "srt://cam:9"])
def test_a_path_that_was_an_address_is_told_as_one(address: str) -> None:
    assert is_address(address)
    assert address_of(Path(address)) == address
    with pytest.raises(UsageError, match=r"is an address, and a file is wanted; save it"):
        check_files(["word", [Path("clip.mp4"), Path(address)]], "save it")


def test_paths_with_colons_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("C:/clips/a.mp4", "a:b.mp4", "clips/rtsp:/x", "rtsp:x", "-", "rtsp:"):
        assert address_of(Path(path)) is None
        assert not is_address(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rtsp:").mkdir()
    (tmp_path / "rtsp:" / "clip.mp4").touch()
    check_files([Path("rtsp://clip.mp4")])  # a file that is there
