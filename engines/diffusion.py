"""The networks of the diffusion paper: the conditional UNet and the encoders of its condition.

Their sizes, labels and noise schedules vary, so they are opened by name and say what they are in
their graphs: the declaration, and facts under `mien.<key>`, which the exporter writes. Two forms of
UNet share one declaration: that of the paper takes a timestep `t` and gives the `noise` in a
picture; mien's own takes a noise level `sigma` and gives the `denoised` picture.

Batches are fixed, as everything in mien's graphs is: two rows, with and without the condition, make
classifier-free guidance one call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mien.engines.engine import Engine
from mien.engines.errors import ModelError
from mien.engines.network import Network, TensorSpec

SIZE = 48  # pixels a side, as in FER-2013
SIGNED = (-1.0, 1.0)
# What the UNet knows of the input beside the target: nothing, the CNN's penultimate layer, the
# VAE's latent, or the code of the face encoder.
CONDITIONS = ("label", "cnn", "vae", "latent")
ENCODED = ("cnn", "vae", "latent")  # conditions with an encoder
# Labels 0 to 6 of FER-2013, the order of the public checkpoints.
FER2013_LABELS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
# The paper's schedule (DDPM, section 4): beta rises linearly over so many timesteps.
TIMESTEPS, FIRST_BETA, LAST_BETA = 1000, 1e-4, 0.02
SIGMA_RANGE = (0.002, 80.0)  # of mien's own UNet (EDM, table 1)
MOST_STEPS, MOST_LABELS = 64, 64

Form = Literal["t", "sigma"]
Null = Literal["all", "label"]


def unet_name(condition: str, steps: int | None = None) -> str:
    """The name of a UNet by its condition (of CONDITIONS), and of a student by its steps."""
    return f"diffusion_{condition}" + (f"_{steps}" if steps else "")


def encoder_name(condition: str) -> str:
    """The name of the encoder of a condition (of ENCODED)."""
    return f"diffusion_{condition}_encoder"


def unet_network(
    name: str, form: Form, *, labels: int, semantic: int = 0, batch: int = 2, size: int = SIZE
) -> Network:
    """The declaration of a conditional UNet.

    x: (batch, 1, size, size), a noised luma picture whose clean form lies in [-1, 1]. t or sigma:
    (batch,). label: (batch, labels), weights of the emotions. semantic: (batch, semantic), the code
    of the input, left out where `semantic` is 0. cond_scale: (batch,), 0 drops the whole condition.
    """
    picture = (batch, 1, size, size)
    level_range = (1.0, TIMESTEPS - 1.0) if form == "t" else SIGMA_RANGE
    inputs = [
        TensorSpec("x", picture, colour="luma"),
        TensorSpec(form, (batch,), range=level_range),
        TensorSpec("label", (batch, labels), range=(0.0, 1.0)),
    ]
    if semantic:
        inputs.append(TensorSpec("semantic", (batch, semantic)))
    inputs.append(TensorSpec("cond_scale", (batch,), range=(0.0, 1.0)))
    output = TensorSpec("noise" if form == "t" else "denoised", picture, colour="luma", most=1e6)
    return Network(name, tuple(inputs), (output,))


def encoder_network(name: str, *, code: int, batch: int = 1, size: int = SIZE) -> Network:
    """The declaration of an encoder: luma (batch, 1, size, size) in [-1, 1] to a code."""
    image = TensorSpec("image", (batch, 1, size, size), range=SIGNED, colour="luma")
    return Network(name, (image,), (TensorSpec("code", (batch, code), most=1e6),))


# What mien's recipe makes; a user's own may have other sizes.
SEMANTIC_WIDTHS = {"label": 0, "cnn": 256, "vae": 128, "latent": 512}
STUDENT_STEPS = (4, 2, 1)
UNETS = tuple(
    unet_network(
        unet_name(condition, steps),
        "sigma",
        labels=len(FER2013_LABELS),
        semantic=SEMANTIC_WIDTHS[condition],
        batch=1 if steps else 2,
    )
    for condition in CONDITIONS
    for steps in (None, *STUDENT_STEPS)
)
ENCODERS = tuple(
    encoder_network(encoder_name(condition), code=SEMANTIC_WIDTHS[condition])
    for condition in ENCODED
)
NETWORK_NAMES = tuple(network.name for network in (*UNETS, *ENCODERS))


@dataclass(frozen=True, slots=True)
class UNetFacts:
    """What a UNet takes.

    form: whether the level is a timestep `t` or a noise level `sigma`. labels: the emotions of its
    label, in order. semantic: width of the code of the input, 0 without. condition: of CONDITIONS.
    null: what classifier-free guidance drops: the whole condition, or the label alone.
    sigmas: the noise levels of a student, falling, 0 last; None for a network that takes any.
    guidance: folded into a student; 1 otherwise.
    """

    form: Form
    size: int
    batch: int
    labels: tuple[str, ...]
    semantic: int
    condition: str
    null: Null
    sigmas: tuple[float, ...] | None = None
    guidance: float = 1.0

    @property
    def words(self) -> dict[str, str]:
        """The facts that the declaration does not hold, for a graph's metadata."""
        stated = {
            "labels": ",".join(self.labels),
            "condition": self.condition,
            "null": self.null,
            "guidance": f"{self.guidance:g}",
        }
        if self.sigmas is not None:
            stated["sigmas"] = ",".join(f"{sigma:.6g}" for sigma in self.sigmas)
        return stated


def unet_facts(engine: Engine) -> UNetFacts:
    """What the UNet in an engine takes. Raises ModelError where it is none."""
    network = engine.network
    shapes = {spec.name: spec.shape for spec in network.inputs}
    form: Form = "t" if "t" in shapes else "sigma"
    picture, label = shapes.get("x", ()), shapes.get("label", ())
    semantic = shapes.get("semantic", (0, 0))
    if len(picture) == 4 and len(label) == len(semantic) == 2 and picture[2] == picture[3]:
        expected = unet_network(
            network.name,
            form,
            labels=label[1],
            semantic=semantic[1],
            batch=picture[0],
            size=picture[2],
        )
        if expected == network:
            return _with_words(engine, form, expected)
    raise ModelError(
        f"{network.name} takes {', '.join(shapes)}, which is no UNet of a diffusion model; "
        "export it again with mien export"
    )


def _with_words(engine: Engine, form: Form, network: Network) -> UNetFacts:
    stated = {key: engine.metadata.get(f"mien.{key}", "") for key in ("labels", "condition")}
    shapes = {spec.name: spec.shape for spec in network.inputs}
    labels = tuple(stated["labels"].split(","))
    batch, _, size, _ = shapes["x"]
    if len(labels) != shapes["label"][1] or len(labels) > MOST_LABELS or not all(labels):
        raise ModelError(
            f"{network.name} states {len(labels)} labels and takes {shapes['label'][1]}; "
            "export it again with mien export"
        )
    if stated["condition"] not in CONDITIONS:
        raise ModelError(
            f"{network.name} does not state its condition ({', '.join(CONDITIONS)}); "
            "export it again with mien export"
        )
    null: Null = "label" if engine.metadata.get("mien.null") == "label" else "all"
    sigmas, guidance = _numbers(engine, "sigmas"), _numbers(engine, "guidance")
    if sigmas and not _falls(sigmas):
        raise ModelError(
            f"{network.name} states the noise levels {list(sigmas)[:8]}, expected falling ones "
            f"that end with 0, of at most {MOST_STEPS} steps; export it again"
        )
    width = shapes.get("semantic", (0, 0))[1]
    return UNetFacts(
        form, size, batch, labels, width, stated["condition"], null, sigmas or None,
        guidance[0] if guidance else 1.0,
    )  # fmt: skip


def _falls(sigmas: Sequence[float]) -> bool:
    pairs = itertools.pairwise(sigmas)
    is_short = 2 <= len(sigmas) <= MOST_STEPS + 1
    return is_short and sigmas[-1] == 0 and all(high > low for high, low in pairs)


def _numbers(engine: Engine, key: str) -> tuple[float, ...]:
    """The numbers that a graph states under a key; empty where it states none."""
    text = engine.metadata.get(f"mien.{key}", "")
    try:
        found = tuple(float(number) for number in text.split(",") if number)
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise ModelError(
            f"{engine.network.name} states {text[:60]!r} for its {key}, expected numbers; "
            "export it again"
        )
    return found
