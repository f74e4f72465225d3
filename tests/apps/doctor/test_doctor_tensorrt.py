from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from mien.apps.doctor import networks as plans
from mien.apps.doctor.finding import Machine
from mien.apps.doctor.networks import check_board, check_driver, check_tensorrt, mend_models
from mien.apps.models.build import BuildJob, run_build
from mien.engines import DeviceError
from mien.engines.catalog import BUNDLED_FOLDER
from mien.engines.tensorrt.engine import PlanSource
from mien.engines.tensorrt.plans import PlanCache
from tests.engines.tensorrt.fake_builder import FakePlanBuilder

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
MODES = """
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
"""


def put(root: Path, file: str, text: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of packages that are said to be there; others are not."""
    names: set[str] = set()
    spec = importlib.machinery.ModuleSpec("there", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: spec if n in names else None)
    return names


def test_a_machine_without_a_gpu_is_told_nothing_of_tensorrt(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, system="linux")
    assert [check_driver(machine), check_tensorrt(machine), check_board(machine)] == [[], [], []]


def test_a_driver_is_named_and_one_that_is_missing_mended(tmp_path: Path) -> None:
    put(tmp_path, "dev/nvidia0", "")
    machine = Machine(root=tmp_path, system="linux")
    (missing,) = check_driver(machine)
    assert (missing.state, bool(missing.fix)) == ("warn", True)
    said = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
    put(tmp_path, "proc/driver/nvidia/version", said)
    (found,) = check_driver(machine)
    assert (found.state, found.text) == ("ok", "580.65.06")


def test_tensorrt_goes_from_missing_to_ready_with_the_line_for_each_step(
    tmp_path: Path, installed: set[str]
) -> None:
    put(tmp_path, "etc/nv_tegra_release", RELEASE)
    machine = Machine(root=tmp_path, system="linux")
    (missing,) = check_tensorrt(machine)
    assert missing.fix.startswith("sudo apt install tensorrt")
    put(tmp_path, "usr/lib/aarch64-linux-gnu/libnvinfer.so.10", "")
    put(tmp_path, "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0", "")
    (unseen,) = check_tensorrt(machine)
    assert "libnvinfer.so.10 is there" in unseen.text
    assert "--system-site-packages" in unseen.fix
    installed.add("tensorrt")
    (bare,) = check_tensorrt(machine)
    assert bare.fix == "pip install 'pycuda>=2022.1'"
    installed.add("pycuda")
    (ready,) = check_tensorrt(machine)
    assert (ready.state, ready.fix) == ("ok", "")


def test_a_board_is_named_with_its_release_and_power_mode(tmp_path: Path) -> None:
    put(tmp_path, "etc/nv_tegra_release", RELEASE)
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    machine = Machine(root=tmp_path, system="linux")
    board, unknown = check_board(machine)
    assert board.text == "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3"
    assert unknown.fix == "sudo nvpmodel -q"
    put(tmp_path, "etc/nvpmodel.conf", MODES)
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0000")
    _, low = check_board(machine)
    assert low.text == "15W; this board has MAXN_SUPER"
    assert "nvpmodel -m 2" in low.fix
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0002")
    _, high = check_board(machine)
    assert (high.state, high.text, high.fix) == ("ok", "MAXN_SUPER", "")


def test_plans_go_from_no_device_to_ready_with_the_line_for_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    machine = Machine(root=tmp_path, system="linux")
    monkeypatch.setattr(plans, "missing_packages", lambda: ("pycuda",))
    assert plans.check_plans(machine) == []
    monkeypatch.setattr(plans, "missing_packages", lambda: ())

    def broken() -> PlanSource:
        raise DeviceError("CUDA does not start: no driver; check nvidia-smi, or the driver")

    monkeypatch.setattr(plans, "tensorrt_source", broken)
    (dead,) = plans.check_plans(machine)
    assert (dead.state, dead.text) == ("warn", "CUDA does not start: no driver")
    assert dead.fix == "check nvidia-smi, or the driver"
    source = PlanSource(FakePlanBuilder(), PlanCache())
    monkeypatch.setattr(plans, "tensorrt_source", lambda: source)
    (unbuilt,) = plans.check_plans(machine)
    assert (unbuilt.state, unbuilt.fix) == ("warn", "mien build")
    assert "no plans of detector, landmarks, warp, occlusion yet" in unbuilt.text
    run_build(BuildJob(open_source=lambda _: source))
    (ready,) = plans.check_plans(machine)
    assert (ready.state, ready.fix) == ("ok", "")
    assert ready.text.startswith("TensorRT 10.3.0 on Fake runs the networks")


def test_model_of_ones_own_is_exported_again(tmp_path: Path) -> None:
    assert mend_models(tmp_path) == f"mien export CHECKPOINT --into {tmp_path}"
    assert mend_models(None) == mend_models(BUNDLED_FOLDER) != mend_models(tmp_path)
