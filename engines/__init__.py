"""Graphs made runnable: network declarations, engines, and the catalog of models."""

from mien.engines.catalog import Catalog, ModelEntry, record_model
from mien.engines.engine import Engine, FakeEngine
from mien.engines.errors import (
    DeviceError,
    EngineError,
    MienError,
    ModelError,
    UsageError,
    VideoError,
)
from mien.engines.network import Network, TensorSpec
from mien.engines.networks import DETECTOR, LANDMARKS, NETWORKS, OCCLUSION, WARP
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.engines.ort.providers import Provider

__all__ = [
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
]
