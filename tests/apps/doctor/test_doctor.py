from __future__ import annotations

import importlib.util
import json
import shutil
import socket
from pathlib import Path

import pytest

from mien.apps.doctor import networks
from mien.apps.doctor.devices import (
    check_cameras,
    check_codecs,
    check_driver,
    check_exclusive_caps,
    check_lock,
    check_package,
    check_panel_packages,
    check_permissions,
    check_pipewire,
    check_port,
    check_virtual_way,
)
from mien.apps.doctor.doctor import CHECKS, examine, print_doctor
from mien.apps.doctor.finding import Check, Finding, Machine
from mien.apps.doctor.networks import check_filter, check_model_tools, check_models, check_providers
from mien.apps.main import run
from mien.engines.system.install import extras_line
from tests.apps.stand_in import write_models
from tests.runtime.live.virtual import Recorder, add_loopback

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def linux(tmp_path: Path) -> Machine:
    """A Linux without anything."""
    return Machine(root=tmp_path, system="linux", release="6.8.0")


def only(check: Check, machine: Machine) -> Finding:
    (finding,) = check(machine)
    return finding


def add_camera(root: Path, number: int, name: str) -> None:
    folder = root / f"sys/class/video4linux/video{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (root / "dev").mkdir(exist_ok=True)
    (root / f"dev/video{number}").write_bytes(b"")


def test_a_driver_goes_from_missing_to_ready_with_the_line_for_each_step(linux: Machine) -> None:
    missing = only(check_driver, linux)
    assert (missing.state, missing.stops_edit) == ("missing", False)
    assert missing.fix.startswith("sudo apt install v4l2loopback-dkms && sudo modprobe")
    modules = linux.root / "lib/modules/6.8.0"
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("updates/v4l2loopback.ko:\n")
    unloaded = only(check_driver, linux)
    assert unloaded.fix.startswith("sudo modprobe v4l2loopback devices=1 exclusive_caps=1")
    add_loopback(linux.root)
    ready = only(check_driver, linux)
    assert (ready.state, ready.fix) == ("ok", "")
    assert "/dev/video10 (mien)" in ready.text


def test_a_device_that_browsers_pass_over_is_told_with_the_line_that_loads_it_again(
    linux: Machine,
) -> None:
    assert check_exclusive_caps(linux) == []
    add_loopback(linux.root, 10)
    assert only(check_exclusive_caps, linux).state == "ok"
    add_loopback(linux.root, 11, exclusive="N")
    found = only(check_exclusive_caps, linux)
    assert found.state == "warn"
    assert "/dev/video11" in found.text
    assert "modprobe -r v4l2loopback && sudo modprobe v4l2loopback" in found.fix


def test_a_size_that_is_locked_is_told_with_the_size_to_use(linux: Machine) -> None:
    add_loopback(linux.root, 10)
    assert check_lock(linux) == []
    add_loopback(linux.root, 11, held="YU12:640x480@30")
    add_loopback(linux.root, 12, held="YUYV:320x240@30")
    first, second = check_lock(linux)
    assert "/dev/video11 is held at 640x480" in first.text
    assert "--size 640x480" in first.fix
    assert "--size" not in second.fix
    assert "fuser /dev/video12" in second.fix


def test_cameras_are_named_and_virtual_ones_are_none(linux: Machine) -> None:
    assert only(check_cameras, linux).state == "missing"
    add_camera(linux.root, 0, "Integrated Webcam")
    add_camera(linux.root, 10, "mien")
    add_loopback(linux.root, 10)
    found = only(check_cameras, linux)
    assert (found.state, found.text) == ("ok", "/dev/video0 (Integrated Webcam)")


def test_devices_this_user_may_not_open_bring_the_group_that_may(tmp_path: Path) -> None:
    closed = Machine(root=tmp_path, system="linux", may_open=lambda path: path.name != "video2")
    assert check_permissions(closed) == []
    for number in (0, 2):
        add_camera(tmp_path, number, "camera")
    found = only(check_permissions, closed)
    assert found.text == "/dev/video2 may not be opened by this user"
    assert "usermod -a -G video" in found.fix
    assert only(check_permissions, Machine(root=tmp_path, system="linux")).state == "ok"


def test_elsewhere_than_on_linux_the_backends_of_pyvirtualcam_are_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pyvirtualcam = pytest.importorskip("pyvirtualcam")
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    monkeypatch.setattr("mien.runtime.live.outputs.virtual_camera.sys.platform", "darwin")
    recorder = Recorder("OBS Virtual Camera", "OBS Virtual Camera is not installed")
    recorder.register("obs")
    machine = Machine(root=tmp_path, system="darwin")
    found = only(check_driver, machine)
    assert found.state == "missing"
    assert "not installed" in found.text
    assert "obsproject.com" in found.fix
    recorder.error = None
    assert only(check_driver, machine) == Finding(
        "virtual camera driver", "ok", "OBS Virtual Camera"
    )
    assert recorder.closed == 1
    for check in (check_permissions, check_exclusive_caps, check_lock):
        assert check(machine) == []


def test_the_ways_to_a_virtual_camera_are_told_with_the_line_for_what_is_missing(
    linux: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking, way = only(check_pipewire, linux), only(check_virtual_way, linux)
    assert (lacking.state, way.state) == ("missing", "missing")
    assert lacking.fix
    assert way.fix == lacking.fix
    assert "neither PipeWire nor v4l2loopback" in way.text

    add_loopback(linux.root)
    monkeypatch.setattr("mien.apps.doctor.devices.is_installed", lambda: True)
    assert only(check_virtual_way, linux).text == "mien camera uses v4l2loopback"

    monkeypatch.setattr("mien.apps.doctor.devices.missing_session", lambda _root: None)
    both = only(check_virtual_way, linux)
    assert (both.state, only(check_pipewire, linux).state) == ("ok", "ok")
    assert both.text.startswith("mien camera uses PipeWire; v4l2loopback works too")


@pytest.mark.parametrize(
    ("system", "text", "fix"),
    [
        ("win32", "some Store apps of Windows 11 do not list them", "in a browser"),
        ("darwin", "once its camera extension is approved", "allow OBS"),
    ],
)
def test_what_other_systems_do_to_a_virtual_camera_is_told_in_one_line(
    tmp_path: Path, system: str, text: str, fix: str
) -> None:
    machine = Machine(root=tmp_path, system=system)
    found = only(check_virtual_way, machine)
    assert found.state == "warn"
    assert text in found.text
    assert fix in found.fix
    assert check_pipewire(machine) == []


def test_packages_that_are_missing_bring_the_extra_that_has_them(
    linux: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    gone = {"pyvirtualcam", "aiortc", "onnx"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else found(name)
    )
    package, served = only(check_package, linux), only(check_panel_packages, linux)
    assert (package.state, package.fix) == ("missing", extras_line("camera"))
    assert "aiortc" in served.text
    assert (served.state, served.fix) == ("missing", extras_line("panel"))

    tools = only(check_model_tools, linux)
    assert (tools.state, tools.fix) == ("missing", extras_line("export"))
    assert tools.text == (
        "onnx not installed; mien audit and mien calibrate need onnx, mien export all"
    )


def test_what_is_only_missing_is_told_as_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    found = importlib.util.find_spec
    gone = {"pyvirtualcam", "starlette", "aiortc", "torch"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else found(name)
    )
    assert print_doctor(Machine(root=tmp_path, system="linux"), as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith(("bad", "warn  panel:"))]
    for subject in ("cameras", "virtual camera package", "virtual camera driver", "panel"):
        assert any(f"-     {subject}: missing (optional): " in line for line in lines)
    assert any("-> " + extras_line("camera,panel")[:12] in line for line in lines)


def test_a_port_in_use_brings_the_next_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = only(check_port, Machine(root=tmp_path, port=port))
    assert found.state == "warn"
    assert str(port) in found.text
    free = int(found.fix.split()[-1])
    assert free > port
    assert only(check_port, Machine(root=tmp_path, port=free)).state == "ok"


def test_codecs_are_told_and_only_h264_stops_an_edit(
    linux: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_codecs(linux)[0].state == "ok"
    assert not any(found.stops_edit for found in check_codecs(linux))
    monkeypatch.setattr(
        "mien.apps.doctor.devices.CODECS",
        (("h264", ("h264",), ("no such",)), ("vp9", ("no such",), ("libvpx-vp9",))),
    )
    first, second = check_codecs(linux)
    assert (first.text, first.stops_edit) == ("h264 cannot be written", True)
    assert (second.text, second.state, second.stops_edit) == ("vp9 cannot be read", "warn", False)


def test_models_and_providers_of_a_whole_install_are_well(linux: Machine) -> None:
    assert only(check_models, linux).state == "ok"
    assert "opens, its networks on cpu" in only(check_filter, linux).text
    first = check_providers(linux)[0]
    assert first.state == "ok"
    assert "cpu is the default" in first.text


def test_a_graphics_card_that_is_not_used_brings_the_package_that_would(
    linux: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.engines import Provider
    from mien.engines.ort.providers import install_line

    monkeypatch.setattr(networks, "available_providers", lambda: (Provider.CPU,))
    assert len(check_providers(linux)) == 1
    card = linux.root / "proc/driver/nvidia/version"
    card.parent.mkdir(parents=True)
    card.write_text("NVRM version: 580")
    found = check_providers(linux)[1]
    assert (found.state, found.stops_edit) == ("warn", False)
    assert found.fix == install_line(Provider.CUDA)


def test_a_provider_that_is_built_in_but_does_not_start_says_why(
    linux: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.engines import Provider

    monkeypatch.setattr(networks, "available_providers", lambda: (Provider.CUDA, Provider.CPU))
    found = check_providers(linux)
    if len(found) == 1:
        pytest.skip("CUDA works on this machine")
    assert found[0].state == "ok"
    assert found[1].state == "warn"
    assert "'cuda'" in found[1].text


def test_doctor_exits_with_2_only_where_an_edit_would_not_run(
    tmp_path: Path, capsys: Captured
) -> None:
    whole = write_models(tmp_path / "models")
    assert run(["doctor", "--models", str(whole)]) == 0
    said = capsys.readouterr().out
    for subject in ("models", "filter", "providers", "codecs", "cameras", "virtual camera"):
        assert subject in said
    damaged = Path(shutil.copytree(whole, tmp_path / "damaged"))
    (damaged / "warp.onnx").write_bytes(b"no network")
    assert run(["doctor", "--models", str(damaged), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["edit_would_run"] is False
    broken = [found for found in report["findings"] if found["state"] == "bad"]
    assert any("warp.onnx" in found["text"] and found["fix"] for found in broken)


def test_everything_that_is_not_well_comes_with_a_line_that_mends_it(linux: Machine) -> None:
    add_loopback(linux.root, exclusive="N", held="YU12:640x480@30")
    found = examine(linux)
    assert {finding.subject for finding in found} >= {"models", "cameras", "exclusive_caps"}
    assert all(finding.fix for finding in found if finding.state != "ok")
    assert not any(finding.fix for finding in found if finding.state == "ok")
    assert len(CHECKS) == len(set(CHECKS))
