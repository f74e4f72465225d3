"""The networks of a filter in PyTorch eager: `python -m mien.export.benchmark.eager`.

The modules are those that were exported, with the weights of the ONNX files put back. Each is held
against its file once; then both are timed, in turns of a few calls, ONNX Runtime with the threads
the filter gives it, PyTorch with what is fastest: one thread or all, planes or channels last.
What is printed is JSON, by network: the median milliseconds of both, or why there are none.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mien.engines import Catalog
from mien.engines.errors import MienError, ModelError
from mien.engines.networks import NETWORKS
from mien.engines.ort.backend import DEFAULT_THREADS
from mien.export.benchmark.torch_engine import time_in_both


def eager_times(
    catalog: Catalog, network: str, seconds: float, *, threads: int, onnx_threads: int
) -> dict[str, object]:
    """The times of a network: `torch` and `onnx_runtime` in ms, `setting`; or `refused`, a reason.

    Raises ModelError where the catalog does not have the network.
    """
    entry = catalog.entry(network)
    entry.check_file()
    try:
        timing = time_in_both(
            entry.path, network, seconds=seconds, threads=threads, onnx_threads=onnx_threads
        )
    except ModelError as error:
        return {"refused": str(error)}
    return {
        "torch": timing.torch_ms,
        "onnx_runtime": timing.onnx_runtime_ms,
        "setting": timing.setting,
    }


def main(arguments: list[str]) -> int:
    """The exit status; the times go to standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m mien.export.benchmark.eager", description=__doc__
    )
    parser.add_argument(
        "networks",
        nargs="*",
        default=[network.name for network in NETWORKS],
        metavar="NAME[=THREADS]",
        help="a network, and how many threads it has in ONNX Runtime; by default the filter's",
    )
    parser.add_argument("--models", type=Path, help="a folder of models, by default the bundled")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each network")
    parser.add_argument("--threads", type=int, default=1, help="that PyTorch may have")
    given = parser.parse_args(arguments)
    times = {}
    try:
        catalog = Catalog.bundled() if given.models is None else Catalog.load(given.models)
        for text in given.networks:
            name, _, count = text.partition("=")
            times[name] = eager_times(
                catalog,
                name,
                given.seconds,
                threads=given.threads,
                onnx_threads=int(count or DEFAULT_THREADS),
            )
    except MienError as error:
        print(f"mien: {error}", file=sys.stderr)  # noqa: T201 -- the one line of an error
        return 2
    print(json.dumps(times))  # noqa: T201 -- its result
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
