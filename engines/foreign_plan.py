"""Plans from elsewhere, read with care until a person's word is all that is left to take.

A plan is code: loading one runs it as this user.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mien.engines.errors import ModelError
from mien.engines.plan_sidecar import SIDECAR, PlanIdentity, PlanSidecar, read_sidecar

MAX_SIDECAR_BYTES = 64 << 10  # one has about 1 kB
MAX_PLAN_BYTES = 2 << 30  # a plan is about as large as its graph


@dataclass(frozen=True, slots=True)
class ForeignPlan:
    """A plan from elsewhere, whole by its sidecar, which is signed by whomever.

    file: where it came from.
    """

    file: Path
    plan: bytes
    sidecar: PlanSidecar


def read_foreign(file: Path) -> ForeignPlan:
    """The plan in a file, its sidecar beside it. Raises ModelError."""
    try:
        beside = file.with_suffix(SIDECAR)
    except ValueError as error:
        raise ModelError(f"{str(file)!r} is no name of a plan; give a .plan file") from error
    data = _read(beside, MAX_SIDECAR_BYTES)
    try:
        sidecar = read_sidecar(data, None)
    except ValueError as error:
        raise ModelError(f"the plan {file} cannot be used: {error}") from error
    plan = _read(file, MAX_PLAN_BYTES)
    if not sidecar.fits(plan):
        raise ModelError(f"the plan {file} is damaged: it is not the one its sidecar states")
    return ForeignPlan(file, plan, sidecar)


def _read(file: Path, most: int) -> bytes:
    """The bytes of a file of its own, not of a pipe, which would be waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(file, flags), "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"{file} is not a file; give a .plan file")
            if found.st_size > most:
                raise ModelError(
                    f"{file} has {found.st_size:,} bytes, more than the {most:,} that mien reads"
                )
            return opened.read(most)
    except ValueError as error:  # a NUL in the name
        raise ModelError(f"{str(file)!r} is no name of a file; give a .plan file") from error
    except OSError as error:
        raise ModelError(
            f"cannot read {file}: {error.strerror}; a plan NAME.plan comes with its sidecar, "
            "NAME.json, beside it"
        ) from error


def differences(stated: PlanIdentity, expected: PlanIdentity) -> list[str]:
    """What two identities do not share, each as `name: stated, here expected`."""
    found = []
    for name in ("network", "graph_sha256", "precision", "profile", "options"):
        mine, other = getattr(expected, name), getattr(stated, name)
        if mine != other:
            found.append(f"{name} {_short(other)}, here {_short(mine)}")
    for name in ("tensorrt", "cuda_major", "sm", "gpu", "system", "architecture"):
        mine, other = getattr(expected.device, name), getattr(stated.device, name)
        if mine != other:
            found.append(f"{name} {_short(other)}, here {_short(mine)}")
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."
