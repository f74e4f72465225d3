"""What a plan was made from, for and on: the JSON file beside it, signed.

TensorRT cannot be asked beforehand whether a plan fits this machine, and a plan is code that runs
as this user. So a plan is loaded only where its sidecar, signed with a key of this machine's cache
folder, says exactly what is asked for, and holds the hash of its bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from mien.engines.network import Network

SIDECAR = ".json"  # the ending of its files
FORMAT = 1
KEY_DIGITS = 24
# What reading one byte changed, or a file made to harm, can raise: 1e999 is no whole number.
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a plan is bound to.

    tensorrt: its version. cuda_major: of the driver's CUDA. sm: the compute capability, `8.7`.
    gpu: its name. system, architecture: as `platform` names them.
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
        """Whether both are one kind of GPU under one system, whatever TensorRT and driver."""
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

    def write(self, key: bytes) -> bytes:
        """The bytes of the file, signed."""
        content = {"format": FORMAT, **asdict(self)}
        content["signature"] = _sign(content, key)
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_sidecar(data: bytes, key: bytes | None) -> PlanSidecar:
    """The sidecar in the bytes of a file.

    key: what it must be signed with; None takes any signature, for a plan that a person trusts.
    Raises ValueError, which says what is wrong with it.
    """
    try:
        content = json.loads(data)
        signature = content.pop("signature")
        stated = int(content["format"])
        sidecar = _sidecar(content)
    except DAMAGE as error:
        raise ValueError("its sidecar is damaged") from error
    if stated != FORMAT:
        raise ValueError(f"its sidecar is of format {stated}, expected {FORMAT}")
    if key is None:
        return sidecar
    canonical = sidecar.write(key)
    if not hmac.compare_digest(str(signature), _sign(content, key)) or canonical != data:
        raise ValueError("its sidecar is damaged, or was not written by mien on this machine")
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


def _sign(content: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, _canonical(content), hashlib.sha256).hexdigest()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
