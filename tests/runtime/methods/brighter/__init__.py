"""A small method that lives outside mien: a network's gain over the face, by what it is told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mien.engines import Catalog, Engine, Network, TensorSpec
from mien.engines.errors import UsageError
from mien.runtime.blending.edit import Edit
from mien.runtime.faces.alignment import AlignedFace, Crop
from mien.runtime.frame import Frame
from mien.runtime.methods.base import FaceEditor, Goal, Method
from mien.runtime.spec import MethodOption, MethodSpec, OptionValue
from mien.runtime.target import EMOTIONS, Target

NETWORK = Network(
    "brighter",
    inputs=(TensorSpec("face", (1, 1, 32, 32), range=(0.0, 1.0), colour="luma"),),
    outputs=(TensorSpec("gain", (1, 1, 32, 32), most=1.0),),
)
HAPPY = EMOTIONS.index("happy")


class Brighter(Method):
    """Lights a face up where it is to be happy."""

    def __init__(self, engine: Engine, amount: float, side: str) -> None:
        self._engine, self._amount, self._side = engine, amount, side

    @property
    def crop(self) -> Crop:
        return Crop(32)

    @property
    def providers(self) -> dict[str, str]:
        return {self._engine.network.name: self._engine.provider}

    def check_target(self, target: Target) -> None:
        if target.weights[HAPPY] < sum(target.weights):
            raise UsageError("brighter makes happy faces only")

    def new_face(self) -> FaceEditor:
        return Lamp(self._engine, self._amount, self._side)

    def close(self) -> None:
        self._engine.close()


class Lamp(FaceEditor):
    def __init__(self, engine: Engine, amount: float, side: str) -> None:
        self.unedited_parts: tuple[str, ...] = ()
        self._engine, self._amount, self._side = engine, amount, side

    def __call__(self, frame: Frame, face: AlignedFace, goal: Goal, time_s: float) -> Edit:
        gain = self._engine.infer({"face": face.pixels[None, None]})["gain"][0, 0]
        gain = gain * np.float32(self._amount * goal.strength * goal.weights[HAPPY])
        if self._side == "left":
            gain[:, 16:] = 0
        gain[[0, -1]] = gain[:, [0, -1]] = 0
        return Edit(gain=gain)


def open_method(catalog: Catalog, provider: str, options: Mapping[str, OptionValue]) -> Method:
    engine = catalog.open(NETWORK, provider=provider)
    return Brighter(engine, float(options["amount"]), str(options["side"]))


METHODS = (
    MethodSpec(
        "brighter",
        "lights the face up",
        f"{__name__}:open_method",
        networks=("brighter",),
        options=(
            MethodOption("side", "Which side.", ("both", "left")),
            MethodOption("amount", "How much.", kind=float, bounds=(0.0, 1.0), default=0.5),
        ),
    ),
)
