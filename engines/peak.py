"""What a machine can do at most: a large matrix product and a large copy, measured.

The product runs on the same provider and as many threads as the networks it is held against. Its
graph is written here byte by byte, for the package `onnx` is not part of the base install.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.engines.graph.wire import bytes_field, number_field, text_field
from mien.engines.ort.backend import DEFAULT_THREADS, open_session

PRODUCTS = 4  # one after another, so that a device is not timed for its copies
CPU_SIDE, DEVICE_SIDE = 512, 4096
COPY_BYTES = 64_000_000  # beyond any cache
ROUNDS = 7
FLOAT = 1  # of onnx.proto3


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that was measured.

    operations_s: float32 additions and multiplications a second, in products of matrices.
    bytes_s: read and written a second by one thread's copy in the host's memory; None where the
        networks run elsewhere.
    """

    operations_s: float
    bytes_s: float | None


def measure_peak(provider: str = "cpu", threads: int | None = None) -> Peak:
    """The peak of a provider and of this machine's memory. Raises DeviceError."""
    side = CPU_SIDE if provider == "cpu" else DEVICE_SIDE
    model = products_model(side)
    session = open_session(
        model, Path("product.onnx"), provider=provider, threads=threads or DEFAULT_THREADS
    )
    feeds = {"x": np.full((side, side), 0.5, np.float32)}
    product_s = _fastest_s(lambda: session.run(None, feeds))
    bytes_s = None
    if provider == "cpu":
        source = np.ones(COPY_BYTES, np.uint8)
        copy = np.empty_like(source)
        bytes_s = 2 * COPY_BYTES / _fastest_s(lambda: np.copyto(copy, source))
    return Peak(2 * PRODUCTS * side**3 / product_s, bytes_s)


def _fastest_s(call: Callable[[], object]) -> float:
    """Seconds of a call: the median of the faster half, the slower ones were disturbed."""
    call()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(sorted(times)[: ROUNDS // 2 + 1])


def products_model(side: int) -> bytes:
    """An ONNX graph that multiplies `x` (side, side) by one matrix, `PRODUCTS` times over."""
    names = ["x", *(f"x{step}" for step in range(1, PRODUCTS)), "y"]
    nodes = b"".join(
        bytes_field(
            1,
            text_field(1, source)
            + text_field(1, "w")
            + text_field(2, result)
            + text_field(4, "MatMul"),
        )
        for source, result in itertools.pairwise(names)
    )
    weights = np.eye(side, dtype="<f4").tobytes()
    dims = number_field(1, side) * 2
    matrix = bytes_field(
        5, dims + number_field(2, FLOAT) + text_field(8, "w") + bytes_field(9, weights)
    )
    graph = nodes + text_field(2, "products") + matrix
    graph += bytes_field(11, _value("x", side)) + bytes_field(12, _value("y", side))
    opset = text_field(1, "") + number_field(2, 18)
    return number_field(1, 8) + bytes_field(8, opset) + bytes_field(7, graph)


def _value(name: str, side: int) -> bytes:
    shape = bytes_field(1, number_field(1, side)) * 2
    return text_field(1, name) + bytes_field(
        2, bytes_field(1, number_field(1, FLOAT) + bytes_field(2, shape))
    )
