"""The rows of the parts paper's tables: what it compared and reached, and each row's filter.

Source: "Let's put a smile on your face" (AIxHMI 2022).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from mien.calibration.smile.measure import Finder, StillEditor
from mien.engines.catalog import Catalog
from mien.engines.networks import EMOTION_CLASSIFIER, generator_facts, generator_name
from mien.runtime.filter import Filter
from mien.runtime.target import parse_target

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


class OpenEditor(StillEditor, AbstractContextManager["OpenEditor"], Protocol):
    """An editor that holds networks until it is left."""


class OpenFinder(Finder, AbstractContextManager["OpenFinder"], Protocol):
    """A finder that holds networks until it is left."""


@dataclass(frozen=True, slots=True)
class SmileRow:
    """One row: what is done to which faces, by which network, and how it is put back."""

    transfer: Transfer
    method: str
    gan: str
    blend: str

    @property
    def title(self) -> str:
        """The row in words."""
        method, gan = METHOD_TITLES[self.method], GAN_TITLES[self.gan]
        return f"{method} {gan} {self.transfer.target}, {self.blend}"

    @property
    def reported(self) -> Reported:
        """What the paper reports of it."""
        return REPORTED[self.transfer.table, self.method, self.gan]


def rows_of(transfer: Transfer, blends: Sequence[str]) -> list[SmileRow]:
    """The rows of one table, in the paper's order."""
    every = itertools.product(METHOD_TITLES, GAN_TITLES, blends)
    return [SmileRow(transfer, method, gan, blend) for method, gan, blend in every]


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of the runtime, as people use them.

    models: a folder of the user's own. provider: what runs the networks.
    """

    models: Path | None = None
    provider: str = "cpu"

    @property
    def catalog(self) -> Catalog:
        """The models to choose from. Raises ModelError."""
        return Catalog.bundled() if self.models is None else Catalog.load(self.models)

    def finder(self) -> OpenFinder:
        """A filter that finds the largest face and leaves it as it is."""
        return Filter(None, face="largest", provider=self.provider, models=self.models)

    def why_missing(self, row: SmileRow) -> str | None:
        """Why there is no such filter; None where there is one. Raises ModelError."""
        name = generator_name(row.gan, row.method)
        catalog = self.catalog
        if name not in {entry.network for entry in catalog.entries}:
            return f"no {name} in the catalog"
        with catalog.open(name, provider=self.provider) as engine:
            facts = generator_facts(engine)
        way = f"{row.transfer.source}->{row.transfer.target}"
        wanted = row.transfer.target if facts.is_conditional else way
        if wanted in facts.labels:
            return None
        return f"{name} has {', '.join(facts.labels)}, not {wanted}"

    def open(self, row: SmileRow) -> OpenEditor:
        """The filter of a row. Raises ModelError, DeviceError."""
        return Filter(
            parse_target(row.transfer.target),
            method=row.method,
            gan=row.gan,
            blend=row.blend,
            face="largest",
            provider=self.provider,
            models=self.models,
        )


def classifier_of(catalog: Catalog) -> Path:
    """The file of the emotion classifier, whole. Raises ModelError."""
    entry = catalog.entry(EMOTION_CLASSIFIER)
    entry.check_file()
    return entry.path
