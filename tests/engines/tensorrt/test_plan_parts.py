"""The small pieces around plans: metadata, progress, memory, options, recordings, time left."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from mien.engines import Catalog, ModelError, Provider
from mien.engines.graph.file import declared_network, read_metadata, read_model
from mien.engines.ort.providers import ProviderOptions
from mien.engines.tensorrt.builder import (
    GIBIBYTE,
    LEAST,
    BuildProgress,
    DeviceMemory,
    PhaseProgress,
)
from mien.engines.tensorrt.driver import capture, open_driver
from tests.engines.tiny import TINY


@pytest.mark.parametrize("entry", Catalog.bundled().entries, ids=lambda entry: entry.network)
def test_metadata_of_shipped_models_is_what_onnx_reads(entry: Any) -> None:
    model = read_model(entry.path, entry.sha256)
    stated = {prop.key: prop.value for prop in onnx.load(str(entry.path)).metadata_props}
    assert read_metadata(model, entry.path) == stated
    assert declared_network(entry.network, entry.path, stated).name == entry.network


def test_graph_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="states that it is the network 'tiny', not 'warp'"):
        declared_network("warp", tmp_path, TINY.metadata())
    with pytest.raises(ModelError, match="does not state that it is the network 'tiny'"):
        declared_network(TINY, tmp_path, {})


@pytest.mark.parametrize(
    ("free", "is_shared", "workspace"),
    [
        (2 * GIBIBYTE, False, GIBIBYTE),
        (80 * GIBIBYTE, False, 4 * GIBIBYTE),
        (2 * GIBIBYTE, True, GIBIBYTE // 2),
        (30 * GIBIBYTE, True, GIBIBYTE),
        (0, True, LEAST),
    ],
)
def test_workspace_is_a_share_of_what_is_free(free: int, is_shared: bool, workspace: int) -> None:
    assert DeviceMemory(free, is_shared).workspace == workspace


def test_nested_phases_make_one_share_that_never_goes_back() -> None:
    told: list[BuildProgress] = []
    now = iter(range(1000))
    watch = PhaseProgress("warp", told.append, clock=lambda: float(next(now)))
    watch.start("build", None, 2)
    watch.start("first", "build", 4)
    for step in range(4):
        watch.step("first", step)
    watch.finish("first")
    watch.step("build", 0)
    watch.step("unknown", 0)
    watch.start("second", "build", 1)
    watch.step("second", 0)
    watch.step("build", 1)
    watch.finish("second")
    watch.finish("build")
    shares = [progress.done for progress in told]
    assert shares == sorted(shares)
    assert shares[:5] == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert shares[-1] == 1


def test_time_left_follows_from_the_share_that_is_done() -> None:
    assert BuildProgress("warp", 0.25, 10).left_s == 30
    assert BuildProgress("warp", 1, 10).left_s == 0
    assert BuildProgress("warp", 0.01, 10).left_s is None


def test_options_of_a_provider_name_its_device() -> None:
    first = ProviderOptions(Provider.CUDA)
    second = ProviderOptions(Provider.CUDA, device=1)
    assert first.options()["device_id"] == "0"
    assert first.options()["use_tf32"] == "0"
    assert second.options() == {**first.options(), "device_id": "1"}
    assert ProviderOptions(Provider.CPU).options() == {}


def test_tensorrt_by_onnx_runtime_sets_no_precision_and_no_cache_of_its_own() -> None:
    options = ProviderOptions(Provider.TENSORRT, workspace=GIBIBYTE).options()
    assert options["trt_max_workspace_size"] == str(GIBIBYTE)
    assert not [name for name in options if "enable" in name or "cache" in name]


def driver(**returns: int) -> tuple[SimpleNamespace, list[str]]:
    """A driver whose calls return 0, or what is given, and the calls it got."""
    calls: list[str] = []

    def made(name: str) -> Any:
        def call(*arguments: Any) -> int:
            calls.append(name)
            if name in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
                place = arguments[1 if name == "cuStreamEndCapture" else 0]
                place._obj.value = 5
            return returns.get(name, 0)

        return call

    names = (
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
        "cuGraphDestroy",
    )
    return SimpleNamespace(**{name: made(name) for name in names}), calls


def test_recording_is_launched_and_given_back() -> None:
    library, calls = driver()
    graph = capture(library, 77, lambda: True)
    assert graph is not None
    assert graph.launch(77)
    graph.close()
    assert calls[-3:] == ["cuGraphLaunch", "cuGraphExecDestroy", "cuGraphDestroy"]


@pytest.mark.parametrize(
    "failing", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_stream_that_cannot_be_recorded_gives_none(failing: str) -> None:
    library, _ = driver(**{failing: 901})
    assert capture(library, 77, lambda: True) is None


def test_recording_of_work_that_fails_is_ended_and_given_back() -> None:
    library, calls = driver()
    assert capture(library, 77, lambda: False) is None
    assert calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]

    def fails() -> bool:
        raise ValueError("copy")

    library, calls = driver()
    with pytest.raises(ValueError, match="copy"):
        capture(library, 77, fails)
    assert calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]


def test_machine_without_the_driver_has_no_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert open_driver() is None
