"""The TensorRT backend without TensorRT: every name it uses is there in every version."""

from __future__ import annotations

import pytest

from tests.engines.tensorrt.trt_names import (
    RECEIVERS,
    backend_sources,
    names_by_version,
    used_names,
    used_receivers,
)

VERSIONS = names_by_version()


def backend_names() -> set[str]:
    return {name for source in backend_sources() for name in used_names(source)}


@pytest.mark.parametrize("version", VERSIONS)
def test_backend_uses_only_names_that_the_version_has(version: str) -> None:
    assert backend_names() - VERSIONS[version] == set()


def test_names_of_the_whole_way_from_graph_to_run_are_seen() -> None:
    assert {
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "OnnxParser.parse",
        "IBuilderConfig.set_timing_cache",
        "IProgressMonitor.step_complete",
        "ILogger.log",
        "Runtime.deserialize_cuda_engine",
        "IExecutionContext.execute_async_v3",
    } <= backend_names()


def test_every_object_that_is_looked_for_is_there() -> None:
    found = {name for source in backend_sources() for name in used_receivers(source)}
    assert found == RECEIVERS.keys()


@pytest.mark.parametrize(
    ("source", "name", "versions"),
    [
        ("flag = trt.BuilderFlag.FP16", "BuilderFlag.FP16", ["11.4.0.106"]),
        ("flag = self._trt.BuilderFlag.FP16", "BuilderFlag.FP16", ["11.4.0.106"]),
        (
            "config.max_num_tactics = 3",
            "IBuilderConfig.max_num_tactics",
            ["10.3.0"],
        ),
        (
            "n = self._engine.device_memory_size",
            "ICudaEngine.device_memory_size",
            ["11.4.0.106"],
        ),
        (
            "base: Any = trt.IProgressMonitor\nclass M(base):\n    def phase_begin(self): ...",
            "IProgressMonitor.phase_begin",
            list(VERSIONS),
        ),
        ("trt.Nothing(1)", "Nothing", list(VERSIONS)),
    ],
)
def test_name_that_a_version_lacks_is_found(source: str, name: str, versions: list[str]) -> None:
    assert name in used_names(source)
    assert [version for version, names in VERSIONS.items() if name not in names] == versions
