"""The parts paper ("Let's put a smile on your face", AIxHMI 2022): what it compared and reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PICTURES = 2048  # for each distance, section 3.3


@dataclass(frozen=True, slots=True)
class Transfer:
    """One table of the paper: faces of `source` are given the emotion `target`."""

    table: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Reported:
    """What the paper reports of one method with one network."""

    fid: float
    accuracy: float


SMILE = Transfer(1, "neutral", "happy")
FROWN = Transfer(2, "happy", "sad")
TRANSFERS = (SMILE, FROWN)
METHOD_TITLES = MappingProxyType(
    {"image": "image-to-image", "face": "face-to-face", "parts": "parts-to-parts"}
)
GAN_TITLES = MappingProxyType({"stargan": "StarGAN", "cyclegan": "CycleGAN"})

# Tables 1 and 2: AffectNet at 64 pixels, a ResNet trained on FERPlus, FID over 2,048 pictures with
# Inception v3. By table, method and network.
REPORTED: Mapping[tuple[int, str, str], Reported] = MappingProxyType(
    {
        (1, "image", "stargan"): Reported(21.67, 0.68),
        (1, "image", "cyclegan"): Reported(42.5, 0.64),
        (1, "face", "stargan"): Reported(17.7, 0.78),
        (1, "face", "cyclegan"): Reported(19.27, 0.51),
        (1, "parts", "stargan"): Reported(17.37, 0.97),
        (1, "parts", "cyclegan"): Reported(24.32, 0.90),
        (2, "image", "stargan"): Reported(24.3, 0.79),
        (2, "image", "cyclegan"): Reported(49.65, 0.76),
        (2, "face", "stargan"): Reported(21.7, 0.77),
        (2, "face", "cyclegan"): Reported(26.4, 0.77),
        (2, "parts", "stargan"): Reported(21.9, 0.78),
        (2, "parts", "cyclegan"): Reported(25.8, 0.75),
    }
)
