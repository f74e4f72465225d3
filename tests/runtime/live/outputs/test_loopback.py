from __future__ import annotations

import os
from pathlib import Path

from mien.runtime.live.outputs.virtual_camera import (
    LoopbackFormat,
    has_reader,
    loopback_devices,
    module_is_installed,
    module_is_loaded,
)
from tests.runtime.live.virtual import add_loopback, add_opener, set_opens

DEVICE = Path("/dev/video10")


def test_devices_are_told_by_number_with_label_format_and_caps(tmp_path: Path) -> None:
    add_loopback(tmp_path, 2, label="OBS Virtual Camera", held="YU12:1280x720@30")
    add_loopback(tmp_path, 10, exclusive="N")
    (tmp_path / "sys/devices/virtual/video4linux/video3").mkdir()  # some other virtual device
    first, second = loopback_devices(tmp_path)
    assert (first.path, first.label) == (Path("/dev/video2"), "OBS Virtual Camera")
    assert first.format == LoopbackFormat("YU12", (1280, 720))
    assert (first.is_exclusive, second.is_exclusive) == (True, False)
    assert (second.path, second.format) == (DEVICE, None)


def test_a_system_without_the_module_has_nothing(tmp_path: Path) -> None:
    assert loopback_devices(tmp_path) == ()
    assert not module_is_loaded(tmp_path)
    assert not module_is_installed(tmp_path, "6.8.0")
    modules = tmp_path / "lib/modules/6.8.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("updates/dkms/v4l2loopback.ko.zst: kernel/videodev.ko\n")
    assert module_is_installed(tmp_path, "6.8.0")
    assert not module_is_installed(tmp_path, "6.9.0")


def test_a_program_that_has_the_device_open_reads_it(tmp_path: Path) -> None:
    add_loopback(tmp_path)
    add_opener(tmp_path, None, str(DEVICE), flags=os.O_WRONLY)
    set_opens(tmp_path, 1)
    assert not has_reader(DEVICE, tmp_path)
    add_opener(tmp_path, 4711, str(DEVICE))
    set_opens(tmp_path, 2)
    assert has_reader(DEVICE, tmp_path)


def test_writers_and_readers_of_other_devices_are_no_readers(tmp_path: Path) -> None:
    add_loopback(tmp_path)
    add_loopback(tmp_path, 11, label="other")
    add_opener(tmp_path, None, str(DEVICE), flags=os.O_WRONLY)
    add_opener(tmp_path, 4711, str(DEVICE), flags=os.O_WRONLY)
    add_opener(tmp_path, 4712, "/dev/video11")
    add_opener(tmp_path, 4712, "socket:[1234]")
    set_opens(tmp_path, 3)
    assert not has_reader(DEVICE, tmp_path)


def test_a_program_that_hides_its_files_counts_as_a_reader(tmp_path: Path) -> None:
    add_loopback(tmp_path)
    add_opener(tmp_path, None, str(DEVICE), flags=os.O_WRONLY)
    set_opens(tmp_path, 2)
    assert has_reader(DEVICE, tmp_path)
