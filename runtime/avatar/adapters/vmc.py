"""VMC going out: what a face shows, to VSeeFace and others that move a VRM model by it.

`vmc://HOST:PORT` sends OSC over UDP as a performer does to a marionette. Expressions have the names
of VRM 1.0 and, beside them, those of VRM 0, and mien's own where VRM has none. Left and right are
the model's, which are the viewer's other ones.

Source: https://protocol.vmc.info/english (`/VMC/Ext/OK`, `/VMC/Ext/T`, `/VMC/Ext/Blend/Val` and
`/VMC/Ext/Blend/Apply`); presets of VRMC_vrm-1.0.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from mien.engines.errors import DeviceError
from mien.runtime.avatar.adapters.link import Address
from mien.runtime.avatar.adapters.reading import FaceReader, FaceReading
from mien.runtime.avatar.protocol import Steer
from mien.runtime.live.outputs.output import ThreadedOutput
from mien.runtime.live.values import LiveFrame
from mien.runtime.target import EMOTIONS

VAL, APPLY = "/VMC/Ext/Blend/Val", "/VMC/Ext/Blend/Apply"
# What VRM 0 calls the presets of VRM 1.0.
OLD_NAMES: Final = {
    "happy": "Joy", "angry": "Angry", "sad": "Sorrow", "relaxed": "Fun", "surprised": "Surprised",
    "aa": "A", "ih": "I", "ou": "U", "ee": "E", "oh": "O", "blink": "Blink",
    "blinkLeft": "Blink_L", "blinkRight": "Blink_R", "lookUp": "LookUp", "lookDown": "LookDown",
    "lookLeft": "LookLeft", "lookRight": "LookRight",
}  # fmt: skip


class VmcSender(ThreadedOutput):
    """Sends what the face shows. Raises DeviceError for a host that is not known."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.text)
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise DeviceError(f"cannot send to {address.text}: {error.strerror}") from error
        family, kind, _, _, to = found[0]
        self._to: Any = to
        self._socket = socket.socket(family, kind)
        self._reader = FaceReader()
        self._began_s = time.monotonic()

    def _show(self, frame: LiveFrame) -> None:
        reading = self._reader(frame)
        bundle = OscBundleBuilder(IMMEDIATELY)
        messages: list[tuple[str, tuple[Any, ...]]] = [
            ("/VMC/Ext/OK", (1,)),
            ("/VMC/Ext/T", (time.monotonic() - self._began_s,)),
        ]
        if reading is not None:
            messages += [(VAL, pair) for pair in _values(reading)]
            messages.append((APPLY, ()))
        for name, values in messages:
            message = OscMessageBuilder(name)
            for value in values:
                message.add_arg(value)
            built: Any = message.build()
            bundle.add_content(built)
        self._socket.sendto(bundle.build().dgram, self._to)

    def _finish(self) -> None:
        self._socket.close()


def _values(reading: FaceReading) -> list[tuple[str, float]]:
    """Names and values of expressions: those of VRM 1.0, then of VRM 0, then mien's own."""
    found = dict(zip(EMOTIONS, reading.weights, strict=True))
    own = {name: found.pop(name) for name in ("fearful", "disgusted", "contemptuous")}
    del found["neutral"]
    x, y = reading.gaze
    found |= {
        "aa": reading.opening * (1 - abs(reading.width)),
        "ih": reading.opening * max(0.0, reading.width),
        "ou": reading.opening * max(0.0, -reading.width),
        "blinkRight": reading.closed[0],
        "blinkLeft": reading.closed[1],
        "lookLeft": max(0.0, x), "lookRight": max(0.0, -x),
        "lookDown": max(0.0, y), "lookUp": max(0.0, -y),
    }  # fmt: skip
    old = {OLD_NAMES[name]: value for name, value in found.items()}
    return [(name, float(value)) for name, value in (found | old | own).items()]


def open_sender(address: Address, steer: Steer | None) -> VmcSender:
    """The link that sends to an address. Raises DeviceError."""
    del steer  # it takes no commands
    return VmcSender(address)
