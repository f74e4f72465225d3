"""`mien calibrate`: one model in FP16 or INT8, into a folder that `--models` takes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from mien.engines.catalog import Catalog, ModelEntry
from mien.engines.errors import ModelError, UsageError
from mien.engines.system.install import packages_line

PRECISIONS = ("fp16", "int8")
RULES = ("cpu", "tensorrt")


@dataclass(frozen=True, slots=True)
class CalibratePlan:
    """What to make.

    model: an ONNX file, or the name of a network in the catalog. data: a folder of pictures or
    clips, None for the bundled sample. precision: of PRECISIONS. rules: of RULES, for INT8: whose
    arithmetic it is for. output: the folder, None for `mien-<precision>`. models: a folder of
    models of the user's own. overwrite: replace a model of that network in the folder.
    """

    model: str
    precision: str
    data: Path | None = None
    rules: str = "cpu"
    output: Path | None = None
    models: Path | None = None
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Where the model, its card and a catalog go."""
        return self.output or Path(f"mien-{self.precision}")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it. path: of the model, None where it was refused. text: its card."""

    path: Path | None
    card: Path
    text: str


def calibrate(plan: CalibratePlan) -> Calibrated:
    """The model in its new precision, written with its card. Raises MienError."""
    check_plan(plan)
    try:
        making = importlib.import_module("mien.calibration.precision.folder")
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ModelError(f"calibration needs the package onnx: {packages_line('onnx')}") from error
    catalog, network = catalog_with(plan)
    made: Calibrated = making.calibrate_into(plan, catalog, network)
    return made


def check_plan(plan: CalibratePlan) -> None:
    """Raise UsageError where the plan makes no sense."""
    if plan.precision not in PRECISIONS:
        raise UsageError(f"--precision must be {' or '.join(PRECISIONS)}, not {plan.precision!r}")
    if plan.rules not in RULES:
        raise UsageError(f"--rules must be {' or '.join(RULES)}, not {plan.rules!r}")
    if plan.folder.exists() and not plan.folder.is_dir():
        raise UsageError(f"-o must be a folder, not the file {plan.folder}")


def catalog_with(plan: CalibratePlan) -> tuple[Catalog, str]:
    """The models to measure with, the one to calibrate among them, and its network's name.

    Raises ModelError.
    """
    catalog = Catalog.bundled() if plan.models is None else Catalog.load(plan.models)
    path = Path(plan.model)
    if path.suffix.lower() != ".onnx":
        catalog.entry(plan.model).check_file()
        return catalog, plan.model
    naming = importlib.import_module("mien.calibration.precision.folder")
    entry: ModelEntry = naming.entry_of(path)
    others = tuple(e for e in catalog.entries if e.network != entry.network)
    return Catalog((entry, *others)), entry.network
