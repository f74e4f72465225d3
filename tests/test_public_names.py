"""The names people build on. A change here is a change for them: say it in CHANGELOG.md."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "mien": {
        "EMOTIONS",
        "Filter",
        "MienError",
        "Target",
        "VideoOptions",
        "edit_video",
        "parse_target",
    },
    "mien.engines": {
        "DETECTOR",
        "LANDMARKS",
        "NETWORKS",
        "OCCLUSION",
        "WARP",
        "Catalog",
        "DeviceError",
        "Engine",
        "EngineError",
        "FakeEngine",
        "MienError",
        "ModelEntry",
        "ModelError",
        "Network",
        "OnnxRuntimeEngine",
        "Provider",
        "TensorSpec",
        "UsageError",
        "VideoError",
        "record_model",
    },
    "mien.runtime": {
        "EMOTIONS",
        "Face",
        "Filter",
        "Frame",
        "PixelLayout",
        "Plane",
        "Target",
        "VideoOptions",
        "VideoReport",
        "edit_video",
        "parse_target",
    },
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_frozen(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == PUBLIC[module]


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_there_and_documented(module: str) -> None:
    package = importlib.import_module(module)
    assert list(package.__all__) == sorted(package.__all__, key=_isort_key)
    for name in package.__all__:
        value = getattr(package, name)
        assert not isinstance(value, type) or value.__doc__, name


@pytest.mark.parametrize("module", ["mien", "mien.runtime"])
def test_editors_and_dir_know_the_names(module: str) -> None:
    package = importlib.import_module(module)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Filte'"):
        _ = package.Filte


def _isort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts `__all__`."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name
