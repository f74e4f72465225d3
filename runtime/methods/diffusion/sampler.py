"""The sampler of the diffusion paper: from a face and an emotion to the edited face.

Everything is done in one space, whatever the UNet was trained in: x = face + sigma * noise, luma in
[-1, 1]. The paper's UNet sees x / sqrt(1 + sigma^2) and a timestep; both ways of saying it are
one for one, and DDIM without chance is Euler's method there. So a picture is inverted by walking
the same line upwards, which finds the noise that the input itself would come from, and what the
code of the input does not hold is kept in that noise.

Source: Ho et al. 2020 (DDPM), algorithm 2; Song et al. 2021 (DDIM), equation 12; Karras et al. 2022
(EDM), algorithm 1 and equation 5; Ho and Salimans 2022 (classifier-free guidance), equation 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mien.engines.diffusion import (
    FIRST_BETA,
    LAST_BETA,
    SIGMA_RANGE,
    TIMESTEPS,
    UNetFacts,
    unet_facts,
)
from mien.engines.engine import Engine
from mien.engines.errors import UsageError
from mien.runtime.methods.diffusion import (
    DEFAULT_GUIDANCE,
    DEFAULT_STEPS,
    LEAST_NOISE,
    MOST_GUIDANCE,
    MOST_STEPS,
    NOISE_GUIDANCE,
    SOLVERS,
    Solver,
)
from mien.runtime.target import EMOTIONS, Target, finite_number

Tell = Callable[[int, int], None]  # calls of the network done, and of how many

EDIT_SIGMA = 1.5  # up to where a face is inverted: what stays of it is who it is
FROM_NOISE = math.inf  # as high as the schedule goes: nothing of the input stays in the noise
LOWEST_SIGMA = 0.05  # of the last step but one
INVERSION_SIGMA = 0.01  # the noise that a face is taken to have
RHO = 7.0  # how noise levels crowd at the low end (EDM, equation 5)


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to sample.

    steps: noise levels, each a call of the network (two for `heun`); None for DEFAULT_STEPS, or a
    student's own number. guidance: how far to go beyond what the condition changes; 1 is the
    condition alone, None for DEFAULT_GUIDANCE (NOISE_GUIDANCE from FROM_NOISE on), or a student's
    own. seed: of all noise. start: the noise level from which faces are made. solver: `ddpm` draws
    new noise in each step.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    start: float = EDIT_SIGMA
    solver: Solver = "ddim"


def seeded_noise(seed: int, track: int, shape: tuple[int, ...], *, step: int = 0) -> np.ndarray:
    """Normal noise, float32, that depends on these numbers and on nothing else."""
    bits = np.random.Philox(np.random.SeedSequence([seed, track, step]))
    return np.random.Generator(bits).standard_normal(shape, np.float32)


def paper_sigmas() -> np.ndarray:
    """The noise level at each timestep 0..999 of the paper's schedule: float64, rising."""
    kept = np.cumprod(1 - np.linspace(FIRST_BETA, LAST_BETA, TIMESTEPS))
    return np.sqrt((1 - kept) / kept)


def crowded_sigmas(steps: int, high: float, low: float = LOWEST_SIGMA) -> np.ndarray:
    """`steps` noise levels from `high` down to `low`, then 0: float64 (steps + 1,).

    Source: EDM, equation 5.
    """
    if steps == 1:
        return np.array([high, 0.0])
    ends = high ** (1 / RHO), min(low, high / 2) ** (1 / RHO)
    return np.append(np.linspace(*ends, steps) ** RHO, 0.0)


@dataclass(frozen=True, slots=True)
class Levels:
    """Noise levels from high to low.

    sigmas: float64 (steps + 1,), falling. told: what the network gets for each but the last.
    lowest, lowest_told: of a face before it is inverted.
    """

    sigmas: np.ndarray
    told: np.ndarray
    lowest: float
    lowest_told: float

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.told)

    def upwards(self) -> Levels:
        """The same for the way from a face to its noise, from low to high."""
        sigmas = np.append(self.lowest, self.sigmas[-2::-1])
        told = np.append(self.lowest_told, self.told[:0:-1])
        return Levels(sigmas, told, self.lowest, self.lowest_told)


def levels_of(facts: UNetFacts, steps: int, start: float) -> Levels:
    """The noise levels of a network, from `start` or from its highest down to 0.

    Raises UsageError where the paper's schedule has fewer timesteps below `start` than `steps`.
    """
    if facts.sigmas is not None:
        sigmas = np.array(facts.sigmas)
    elif facts.form == "sigma":
        sigmas = crowded_sigmas(steps, min(start, SIGMA_RANGE[1]))
    else:
        every = paper_sigmas()
        first = int(np.searchsorted(every, start, side="right")) - 1
        if first < steps:
            raise UsageError(
                f"the paper's schedule has {first} steps below the noise level {start:g}, not "
                f"{steps}; take fewer steps, or start from more noise"
            )
        times = np.round(np.linspace(first, 0, steps + 1)).astype(int)
        return Levels(every[times] * (times > 0), times[:-1].astype(float), float(every[1]), 1.0)
    return Levels(sigmas, sigmas[:-1], INVERSION_SIGMA, INVERSION_SIGMA)


def ddim_step(x: np.ndarray, denoised: np.ndarray, sigma: float, following: float) -> np.ndarray:
    """x at the noise level `following`, up or down, on the line through it and `denoised`."""
    moved: np.ndarray = denoised + np.float32(following / sigma) * (x - denoised)
    return moved


def ddpm_step(
    x: np.ndarray, denoised: np.ndarray, sigmas: tuple[float, float], noise: np.ndarray
) -> np.ndarray:
    """x at the lower of two noise levels, drawn as the paper draws it, with sigma_t^2 = beta_t.

    noise: of unit variance; left out where the lower level is 0, that is in the last step.
    Source: DDPM, algorithm 2, for two levels any distance apart.
    """
    sigma, following = sigmas
    kept, later = 1 / (1 + sigma**2), 1 / (1 + following**2)
    beta = 1 - kept / later
    # In the paper's space, where x is scaled to unit variance.
    noise_in_x = (x - denoised) / np.float32(sigma)
    mean = x * np.float32(kept**0.5) - np.float32(beta / (1 - kept) ** 0.5) * noise_in_x
    mean = mean / np.float32((kept / later) ** 0.5)
    drawn = mean if following == 0 else mean + np.float32(beta**0.5) * noise
    scaled: np.ndarray = drawn / np.float32(later**0.5)
    return scaled


def label_weights(facts: UNetFacts, target: Target) -> np.ndarray:
    """The weights of an emotion mix in the order of a network's labels: float32 (1, labels).

    Raises UsageError where the network does not know one of the emotions.
    """
    wanted = [e for e, w in zip(EMOTIONS, target.weights, strict=True) if w > 0]
    unknown = [emotion for emotion in wanted if emotion not in facts.labels]
    if unknown:
        raise UsageError(
            f"the diffusion model knows {', '.join(facts.labels)}, not {unknown[0]}; ask for one "
            "of these"
        )
    return label_of(facts, target.weights)


def label_of(facts: UNetFacts, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Weights in the order of EMOTIONS in that of a network's labels: float32 (1, labels).

    Emotions that the network does not know are left out.
    """
    known = dict(zip(EMOTIONS, weights, strict=True))
    return np.array([[known.get(label, 0.0) for label in facts.labels]], np.float32)


class Sampler:
    """Makes faces with one UNet; a call a noise level, guidance within it.

    engine: of a network as `mien.engines.diffusion.unet_network` declares it. tell: is told how
    many calls are done. Raises UsageError for options that make no sense with it.
    """

    def __init__(
        self, engine: Engine, options: SamplerOptions | None = None, tell: Tell | None = None
    ) -> None:
        options = options or SamplerOptions()
        self.facts = unet_facts(engine)
        self.guidance = _checked_guidance(options, self.facts)
        self._seed = _checked_seed(options.seed)
        steps = _checked_steps(options.steps, self.facts)
        self.levels = levels_of(self.facts, steps, _checked_start(options.start))
        if options.solver not in SOLVERS:
            known = ", ".join(SOLVERS)
            raise UsageError(f"a diffusion solver is one of {known}, not {options.solver!r}")
        if self.facts.sigmas is not None and options.solver != "ddim":
            raise UsageError(
                f"{engine.network.name} was distilled for ddim steps, not for {options.solver}; "
                "leave the solver out"
            )
        self._solver = options.solver
        self._engine = engine
        self._tell = tell

    def noise(self, track: int) -> np.ndarray:
        """The noise of one track at the highest level, the same in each call: (1, 1, s, s)."""
        size = self.facts.size
        drawn = seeded_noise(self._seed, track, (1, 1, size, size))
        scaled: np.ndarray = drawn * np.float32(self.levels.sigmas[0])
        return scaled

    def disturb(self, face: np.ndarray, track: int) -> np.ndarray:
        """A face under its track's noise, as the paper begins an edit: float32 (n, 1, s, s)."""
        disturbed: np.ndarray = self._face(face) + self.noise(track)
        return disturbed

    def invert(self, face: np.ndarray, semantic: np.ndarray | None = None) -> np.ndarray:
        """The noise that a face comes from without any label: float32 (n, 1, s, s).

        face: (n, 1, s, s), luma in [-1, 1]. semantic: (n, d), the code of the face, where the
        network has one. DDIM (equation 12) from low noise to high, whatever the solver.
        """
        x = self._face(face)
        label = self._no_label(len(x))
        if self.facts.sigmas is not None:  # how a student is told which way to go
            label += 1
        rows = _Rows(x, label, self._semantic(semantic, len(x)))
        up = self.levels.upwards()
        for step in range(up.steps):
            denoised = self._denoised(rows.at(x), float(up.sigmas[step]), float(up.told[step]), 1.0)
            x = ddim_step(x, denoised, float(up.sigmas[step]), float(up.sigmas[step + 1]))
            self._say(step + 1, up.steps)
        return x

    def generate(
        self,
        latent: np.ndarray,
        label: np.ndarray,
        semantic: np.ndarray | None = None,
        *,
        tracks: Sequence[int] = (),
    ) -> np.ndarray:
        """The faces that noise becomes under a label: float32 (n, 1, s, s) in [-1, 1].

        latent: of `invert`, `disturb` or `noise`. label: (n, labels), `label_weights`. semantic:
        (n, d). tracks: a number for each row, which its further noise depends on (`ddpm`).
        """
        guidance = 1.0 if self.facts.sigmas is not None else self.guidance
        return self._down(latent, self._label(label, len(latent)), semantic, guidance, tracks)

    def reconstruct(self, latent: np.ndarray, semantic: np.ndarray | None = None) -> np.ndarray:
        """The faces that noise becomes without any label: what an edit is a change of."""
        return self._down(latent, self._no_label(len(latent)), semantic, 1.0, ())

    def edit(
        self, face: np.ndarray, label: np.ndarray, semantic: np.ndarray | None = None
    ) -> np.ndarray:
        """Faces inverted and made again under a label: float32 (n, 1, s, s) in [-1, 1]."""
        return self.generate(self.invert(face, semantic), label, semantic)

    def _down(
        self,
        latent: np.ndarray,
        label: np.ndarray,
        semantic: np.ndarray | None,
        guidance: float,
        tracks: Sequence[int],
    ) -> np.ndarray:
        x = self._face(latent)
        rows = _Rows(x, label, self._semantic(semantic, len(x)))
        for step in range(self.levels.steps):
            x = self._step(x, rows, step, guidance, tracks or [0] * len(x))
            self._say(step + 1, self.levels.steps)
        return x.clip(-1, 1)

    def _step(
        self, x: np.ndarray, rows: _Rows, step: int, guidance: float, tracks: Sequence[int]
    ) -> np.ndarray:
        sigma, following = map(float, self.levels.sigmas[step : step + 2])
        denoised = self._denoised(rows.at(x), sigma, float(self.levels.told[step]), guidance)
        if self._solver == "ddpm":
            shape = (1, *x.shape[1:])
            drawn = [seeded_noise(self._seed, track, shape, step=step + 1) for track in tracks]
            return ddpm_step(x, denoised, (sigma, following), np.concatenate(drawn))
        moved = ddim_step(x, denoised, sigma, following)
        if self._solver == "ddim" or following == 0:
            return moved
        told = float(self.levels.told[step + 1])
        again = self._denoised(rows.at(moved), following, told, guidance)
        slopes = (x - denoised) / np.float32(sigma), (moved - again) / np.float32(following)
        corrected: np.ndarray = x + np.float32((following - sigma) / 2) * (slopes[0] + slopes[1])
        return corrected

    def _denoised(self, rows: _Rows, sigma: float, told: float, guidance: float) -> np.ndarray:
        """The clean faces that the network sees in noised ones, guided."""
        if guidance == 1:
            return self._ask(rows, np.ones(len(rows.x), np.float32), sigma, told)
        # The two rows of a face stand together, so that a network of two rows takes them at once.
        both = rows.twice()
        scale = np.ones(len(both.x), np.float32)
        if self.facts.null == "all":
            scale[1::2] = 0
        else:
            both.label[1::2] = 0
        found = self._ask(both, scale, sigma, told)
        guided: np.ndarray = found[1::2] + np.float32(guidance) * (found[::2] - found[1::2])
        return guided

    def _ask(self, rows: _Rows, scale: np.ndarray, sigma: float, told: float) -> np.ndarray:
        form, batch = self.facts.form, self.facts.batch
        given = rows.x / np.float32((1 + sigma**2) ** 0.5) if form == "t" else rows.x
        whole = {"x": given, "label": rows.label, "cond_scale": scale}
        if rows.semantic is not None:
            whole["semantic"] = rows.semantic
        parts = []
        for first in range(0, len(given), batch):
            part = {name: value[first : first + batch] for name, value in whole.items()}
            missing = batch - len(part["x"])
            if missing:  # the last call is filled up with its own last row
                part = {n: np.concatenate([v, *[v[-1:]] * missing]) for n, v in part.items()}
            part[form] = np.full(batch, told, np.float32)
            (found,) = self._engine.infer(part).values()
            parts.append(found[: batch - missing])
        found = np.concatenate(parts)
        denoised: np.ndarray = rows.x - np.float32(sigma) * found if form == "t" else found
        return denoised

    def _say(self, done: int, total: int) -> None:
        if self._tell is not None:
            self._tell(done, total)

    def _face(self, face: np.ndarray) -> np.ndarray:
        size = self.facts.size
        if face.ndim != 4 or face.shape[1:] != (1, size, size) or not len(face):
            raise UsageError(
                f"the diffusion model takes faces (n, 1, {size}, {size}), received "
                f"{tuple(face.shape)}; crop them to its size"
            )
        return face.astype(np.float32)

    def _no_label(self, count: int) -> np.ndarray:
        return np.zeros((count, len(self.facts.labels)), np.float32)

    def _label(self, label: np.ndarray, count: int) -> np.ndarray:
        labels = self.facts.labels
        if label.ndim != 2 or label.shape[1] != len(labels) or len(label) not in (1, count):
            raise UsageError(
                f"the diffusion model takes {len(labels)} weights a face ({', '.join(labels)}), "
                f"received {tuple(label.shape)} for {count} faces"
            )
        return np.repeat(label, count // len(label), 0).astype(np.float32)

    def _semantic(self, semantic: np.ndarray | None, count: int) -> np.ndarray | None:
        width, name = self.facts.semantic, self._engine.network.name
        received = 0 if semantic is None else semantic.shape[-1]
        if received != width:
            raise UsageError(
                f"the semantic code has {received} numbers, but {name} (condition "
                f"{self.facts.condition}) takes {width}; use the encoder that it was trained with"
            )
        if semantic is None:
            return None
        if semantic.shape != (count, width):
            raise UsageError(
                f"{name} takes a semantic code for each of {count} faces, received "
                f"{tuple(semantic.shape)}"
            )
        return semantic.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Noised pictures with their condition, a row each."""

    x: np.ndarray
    label: np.ndarray
    semantic: np.ndarray | None

    def at(self, x: np.ndarray) -> _Rows:
        return _Rows(x, self.label, self.semantic)

    def twice(self) -> _Rows:
        """Each row two times, one after the other, in arrays of their own."""
        semantic = None if self.semantic is None else self.semantic.repeat(2, 0)
        return _Rows(self.x.repeat(2, 0), self.label.repeat(2, 0), semantic)


def _checked_steps(steps: object, facts: UNetFacts) -> int:
    if facts.sigmas is not None:
        own = len(facts.sigmas) - 1
        if steps not in (None, own):
            raise UsageError(
                f"this diffusion model is a student of {own} steps, not {steps!r}; leave the steps "
                "out, or take its teacher"
            )
        return own
    if steps is None:
        return DEFAULT_STEPS
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"diffusion steps are a whole number in 1..{MOST_STEPS}, not {steps!r}")
    return steps


def _checked_guidance(options: SamplerOptions, facts: UNetFacts) -> float:
    guidance: object = options.guidance
    own = facts.guidance if facts.sigmas is not None else None
    if guidance is None:
        usual = NOISE_GUIDANCE if options.start == FROM_NOISE else DEFAULT_GUIDANCE
        return usual if own is None else own
    number = finite_number(guidance)
    if number is None or not 0 <= number <= MOST_GUIDANCE:
        raise UsageError(f"guidance is a number in 0..{MOST_GUIDANCE:g}, not {guidance!r}")
    if own is not None and not math.isclose(number, own, rel_tol=1e-3):
        raise UsageError(
            f"this diffusion model is a student with guidance {own:g} in it, not {number:g}; leave "
            "the guidance out, or take its teacher"
        )
    return number


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise UsageError(f"a seed is a whole number from 0 on, not {seed!r}")
    return seed


def _checked_start(start: object) -> float:
    if start == FROM_NOISE:
        return FROM_NOISE
    number = finite_number(start)
    if number is None or number < LEAST_NOISE:
        raise UsageError(
            f"the noise level that an edit starts from is a number from {LEAST_NOISE:g} on, "
            f"not {start!r}"
        )
    return number
