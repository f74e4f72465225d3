"""mien's own TensorRT backend: whether it starts here, and whether its plans are built."""

from __future__ import annotations

from mien.apps.checks.finding import Finding, Machine
from mien.engines import NETWORKS, Catalog, MienError
from mien.engines.opening import tensorrt_source
from mien.engines.tensorrt.device import missing_packages
from mien.engines.tensorrt.engine import PlanModel

SUBJECT = "TensorRT plans"


def check_plans(machine: Machine) -> list[Finding]:
    """What runs the default filter on TensorRT; nothing where its packages are not installed."""
    if missing_packages():
        return []
    try:
        source = tensorrt_source()
        device = source.builder.device()
        catalog = Catalog.bundled() if machine.models is None else Catalog.load(machine.models)
        entries = [catalog.entry(network) for network in NETWORKS]
        models = [PlanModel.read(entry.path, entry.network, entry.sha256) for entry in entries]
        lacking = [model.network.name for model in models if not source.is_built(model)]
    except MienError as error:
        text, _, fix = str(error).rpartition("; ")
        return [Finding(SUBJECT, "warn", text or fix, fix if text else "mien edit --provider cpu")]
    where = f"TensorRT {device.tensorrt} on {device.gpu}"
    if lacking:
        text = f"{where} would run the networks, but has no plans of {', '.join(lacking)} yet"
        own = "" if machine.models is None else f" --models {machine.models}"
        return [Finding(SUBJECT, "warn", text, f"mien build{own}")]
    text = f"{where} runs the networks with --provider tensorrt, and auto takes it first"
    return [Finding(SUBJECT, "ok", text)]
