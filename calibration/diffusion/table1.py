"""`mien evaluate diffusion`: Table 1 of the paper with every UNet of a folder of models.

A UNet of many steps stands there twice: its faces made from noise alone, as those of the paper in
effect are, and by inversion, which keeps the person. Its distilled networks stand below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mien.calibration.diffusion.evaluate import (
    EACH,
    Cells,
    Classifier,
    EditedRow,
    EditScore,
    EmbeddingNetwork,
    HeldOut,
    Identity,
    Tell,
    held_out_faces,
    json_of,
    other_networks,
    score_row,
    shipped_identity,
    table_of,
)
from mien.calibration.judges.classifier import EmotionClassifier
from mien.calibration.judges.features import InputRange
from mien.calibration.judges.independent import Others
from mien.calibration.tables.machine import machine_line
from mien.engines.catalog import Catalog
from mien.engines.diffusion import CONDITIONS, ENCODED, encoder_name, unet_facts, unet_name
from mien.engines.engine import Engine
from mien.engines.errors import UsageError
from mien.engines.networks import EMOTION_CLASSIFIER
from mien.runtime.methods.diffusion.sampler import FROM_NOISE, SamplerOptions

# The highest noise level of a distilled network that keeps the person; one from far above it makes
# faces from noise.
KEEPS_PERSON = 10.0
SHIPPED = "shipped"


@dataclass(frozen=True, slots=True)
class DiffusionPlan:
    """What to measure.

    data: the folder of FER-2013. conditions: of CONDITIONS; empty for all in the catalog.
    classifier: an ONNX file, None for the shipped one. identity, identity_range: an embedding of
    people, as ONNX, and what its black and white are. others: a second classifier and, without
    `identity`, the embedding. options: of the UNets of many steps.
    """

    data: Path
    models: Path | None = None
    provider: str = "cpu"
    conditions: tuple[str, ...] = ()
    each: int = EACH
    split: str = "public"
    options: SamplerOptions = field(default_factory=SamplerOptions)
    classifier: Path | None = None
    identity: Path | None = None
    identity_range: InputRange | None = None
    others: Others | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.conditions if name not in CONDITIONS]
        if unknown:
            raise UsageError(f"unknown condition {unknown[0]!r} (known: {', '.join(CONDITIONS)})")
        if self.identity_range is not None and self.identity is None:
            raise UsageError("--identity-range needs --identity FILE")


@dataclass(frozen=True, slots=True)
class DiffusionReport:
    """The scores, the paper's condition for those that it has, and with what they were taken."""

    scores: tuple[EditScore, ...]
    conditions: Mapping[str, str]
    faces: int
    split: str
    identity: str
    machine: str

    def table(self) -> tuple[Cells, list[Cells]]:
        """Header and rows."""
        return table_of(self.scores, self.conditions)

    def notes(self) -> str:
        """What the columns are, in a few lines."""
        return (
            f"{self.faces} pictures of FER-2013's {self.split} split, each given all 7 emotions; "
            f"{self.machine}.\n"
            f"same person, own nearest: by {self.identity}. outside: mean absolute difference "
            "outside mouth and brows, in 8-bit steps. ms: of one edit, with its share of the "
            "inversion, which serves all 7."
        )

    def json(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "faces": self.faces,
            "split": self.split,
            "identity": self.identity,
            "machine": self.machine,
            "rows": json_of(self.scores),
        }


def measure_diffusion(plan: DiffusionPlan, tell: Tell = lambda *_: None) -> DiffusionReport:
    """Table 1 of what the catalog holds. Raises MienError."""
    faces = held_out_faces(plan.data, each=plan.each, split=plan.split)
    catalog = Catalog.bundled() if plan.models is None else Catalog.load(plan.models)
    conditions = _there(plan.conditions, catalog)
    with ExitStack() as stack:
        classifiers, identity = _lookers(plan, catalog, stack)
        scores: list[EditScore] = []
        for condition in conditions:
            scores += _condition_scores(
                condition, plan, catalog, (faces, classifiers, identity), tell
            )
    from_noise = {_noise_row(condition): condition for condition in conditions}
    return DiffusionReport(
        tuple(scores), from_noise, len(faces), plan.split, identity.name, machine_line()
    )


def _there(wanted: Sequence[str], catalog: Catalog) -> tuple[str, ...]:
    """The conditions that are wanted, or all that the catalog has a UNet of."""
    known = {entry.network for entry in catalog.entries}
    there = {c for c in CONDITIONS if any(name in known for name in _names(c, catalog))}
    missing = [condition for condition in wanted if condition not in there]
    if missing or not there:
        lacking = f"of the condition {missing[0]}" if missing else "of any condition"
        raise UsageError(
            f"there is no diffusion UNet {lacking}; train one with python -m mien.training "
            "diffusion, then name its folder with --models DIR"
        )
    return tuple(c for c in CONDITIONS if c in (wanted or there))


def _names(condition: str, catalog: Catalog) -> list[str]:
    """The UNets of a condition in the catalog: that of many steps, then by falling steps."""
    first = unet_name(condition)
    known = [entry.network for entry in catalog.entries]
    steps = [n.removeprefix(f"{first}_") for n in known if n.startswith(f"{first}_")]
    numbers = sorted((int(text) for text in steps if text.isdecimal()), reverse=True)
    return [*([first] if first in known else []), *(unet_name(condition, n) for n in numbers)]


def _noise_row(condition: str) -> str:
    return f"{condition}, from noise"


def _lookers(
    plan: DiffusionPlan, catalog: Catalog, stack: ExitStack
) -> tuple[dict[str, Classifier], Identity]:
    """Who looks at the edits: classifiers by name, and an embedding of people."""
    file = plan.classifier or catalog.entry(EMOTION_CLASSIFIER).path
    name = SHIPPED if plan.classifier is None else plan.classifier.stem
    classifiers: dict[str, Classifier] = {name: EmotionClassifier.load(file).name}
    identity = None
    if plan.others is not None:
        networks = stack.enter_context(plan.others.open())
        classifiers["other origin"], identity = other_networks(networks)
    if plan.identity is not None:
        shown = plan.identity_range or InputRange(0.0, 1.0)
        identity = EmbeddingNetwork(plan.identity, shown).identity
    return classifiers, identity or shipped_identity(file)


def _condition_scores(
    condition: str,
    plan: DiffusionPlan,
    catalog: Catalog,
    look: tuple[list[HeldOut], dict[str, Classifier], Identity],
    tell: Tell,
) -> Iterator[EditScore]:
    faces, classifiers, identity = look
    with ExitStack() as stack:

        def opened(network: str) -> Engine:
            return stack.enter_context(catalog.open(network, provider=plan.provider))

        encoder = opened(encoder_name(condition)) if condition in ENCODED else None
        for name in _names(condition, catalog):
            for row in rows_of(opened(name), encoder, plan.options):
                yield score_row(row, faces, classifiers, identity, tell)


def rows_of(unet: Engine, encoder: Engine | None, options: SamplerOptions) -> list[EditedRow]:
    """The ways in which one UNet edits. options: of one that takes any number of steps."""
    facts = unet_facts(unet)
    if facts.sigmas is None:
        noise = replace(options, start=FROM_NOISE)
        return [
            EditedRow(_noise_row(facts.condition), unet, encoder, noise, "noise"),
            EditedRow(f"{facts.condition}, inverted", unet, encoder, options),
        ]
    own = SamplerOptions(seed=options.seed)
    name = f"{facts.condition}, {len(facts.sigmas) - 1} steps"
    if facts.sigmas[0] > KEEPS_PERSON:
        return [EditedRow(f"{name} from noise", unet, encoder, own, "noise")]
    return [EditedRow(f"{name}, inverted", unet, encoder, own)]
