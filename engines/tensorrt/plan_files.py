"""A plan's sidecar, which says what it was made from, for and on, and plans from elsewhere.

TensorRT cannot be asked beforehand whether a plan fits this machine, and a plan is code that runs
as this user. So a plan is loaded only from a folder and files that are this user's alone, where its
sidecar says exactly what is asked for and holds the hash of its bytes. A plan from elsewhere is
checked in every other respect first, until only a person's word that it is to be trusted is
missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mien.engines.errors import ModelError
from mien.engines.network import Network

SIDECAR = ".json"  # the ending of its files
FORMAT = 2  # 1 was signed
KEY_DIGITS = 24
# What reading one byte changed, or a file made to harm, can raise: 1e999 is no whole number.
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a plan is bound to.

    tensorrt: its version. sm: the compute capability, `8.7`. gpu: its name. system, architecture:
    as `platform` names them.
    cuda_major: the major version of CUDA that the driver serves. One TensorRT version comes built
    for several (the packages tensorrt-cu12 and tensorrt-cu13), and this tells them apart. The
    driver's own version is no part: a plan outlives its updates within a major version of CUDA.
    """

    tensorrt: str
    cuda_major: int
    sm: str
    gpu: str
    system: str
    architecture: str

    @property
    def tag(self) -> str:
        """A short name for files that belong to this device."""
        return _digest(asdict(self))[:16]

    def is_same_gpu(self, other: DeviceFacts) -> bool:
        """Whether both are one kind of GPU under one system, whatever TensorRT and CUDA."""
        return self._hardware == other._hardware

    @property
    def _hardware(self) -> tuple[str, ...]:
        return self.gpu, self.sm, self.system, self.architecture


@dataclass(frozen=True, slots=True)
class PlanIdentity:
    """All that makes one plan another than the next.

    network: its name. graph_sha256: of the model file. precision: what the graph states of it.
    profile: the tensors with their shapes, as `profile_of` writes them. device: where it runs.
    options: how it was built, `BuildOptions.tag`.
    """

    network: str
    graph_sha256: str
    precision: str
    profile: str
    device: DeviceFacts
    options: str

    @property
    def stem(self) -> str:
        """The name of its files, without their ending."""
        name = NOT_IN_NAMES.sub("_", self.network)[:40]
        return f"{name}-{_digest(asdict(self))[:KEY_DIGITS]}"


@dataclass(frozen=True, slots=True)
class PlanSidecar:
    """What is written beside a plan.

    plan_sha256, plan_bytes: of the plan. built_s: how long the build took.
    """

    identity: PlanIdentity
    plan_sha256: str
    plan_bytes: int
    built_s: float

    @classmethod
    def of(cls, identity: PlanIdentity, plan: bytes, built_s: float = 0.0) -> PlanSidecar:
        """The sidecar of a plan."""
        digest = hashlib.sha256(plan).hexdigest()
        return cls(identity, digest, len(plan), round(built_s, 1))

    def fits(self, plan: bytes) -> bool:
        """Whether `plan` is the plan it was written for."""
        digest = hashlib.sha256(plan).hexdigest()
        return len(plan) == self.plan_bytes and digest == self.plan_sha256

    def write(self) -> bytes:
        """The bytes of the file."""
        content = {"format": FORMAT, **asdict(self)}
        content["sha256"] = _digest(content)
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_sidecar(data: bytes) -> PlanSidecar:
    """The sidecar in the bytes of a file. Raises ValueError, which says what is wrong with it."""
    try:
        content = json.loads(data)
        stated = int(content["format"])
        sidecar = _sidecar(content) if stated == FORMAT else None
    except DAMAGE as error:
        raise ValueError("its sidecar is damaged") from error
    if sidecar is None:
        raise ValueError(f"its sidecar is of format {stated}, expected {FORMAT}")
    if sidecar.write() != data:  # one spelling only, so that nothing hides in another
        raise ValueError("its sidecar is damaged")
    return sidecar


def profile_of(network: Network) -> str:
    """The tensors of a network with dtypes and shapes, in one line."""
    tensors = (*network.inputs, *network.outputs)
    return "; ".join(f"{t.name} {t.dtype} {'x'.join(map(str, t.shape))}" for t in tensors)


def _sidecar(content: dict[str, Any]) -> PlanSidecar:
    stated = dict(content["identity"])
    device = DeviceFacts(**{**stated["device"], "cuda_major": int(stated["device"]["cuda_major"])})
    identity = PlanIdentity(**{**stated, "device": device})
    numbers = {"cuda_major": "", "device": ""}
    texts = (asdict(identity) | numbers, asdict(device) | numbers)
    if not all(isinstance(value, str) for fields in texts for value in fields.values()):
        raise TypeError("a field is no text")
    return PlanSidecar(
        identity,
        str(content["plan_sha256"]),
        int(content["plan_bytes"]),
        float(content["built_s"]),
    )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


MAX_SIDECAR_BYTES = 64 << 10  # one has about 1 kB
MAX_PLAN_BYTES = 2 << 30  # a plan is about as large as its graph


@dataclass(frozen=True, slots=True)
class ForeignPlan:
    """A plan from elsewhere, whole by its sidecar, which anybody may have written.

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
        sidecar = read_sidecar(data)
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
