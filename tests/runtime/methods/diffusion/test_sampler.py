"""The diffusion sampler, where the right answer is known: faces that are normal noise.

Where pictures are drawn from a normal distribution of deviation s about m, the clean picture in a
noised one is known in closed form, and the line from noise to picture scales by s / (s^2 +
sigma^2)^(1/2): what a sampler has to reach.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from mien.engines.diffusion import FER2013_LABELS, UNetFacts, unet_network
from mien.engines.engine import FakeEngine
from mien.engines.errors import UsageError
from mien.runtime.methods.diffusion import DEFAULT_STEPS
from mien.runtime.methods.diffusion.sampler import (
    FROM_NOISE,
    Levels,
    Sampler,
    SamplerOptions,
    crowded_sigmas,
    label_weights,
    levels_of,
    paper_sigmas,
    seeded_noise,
)
from mien.runtime.target import parse_target

SPREAD, SIZE = 0.2, 8
MEANS = np.linspace(-0.3, 0.3, 7)  # of the faces of each label


class Normal:
    """A UNet that knows the faces of each label: normal noise about a mean of its own.

    calls: the rows of each call, and the level that it was told.
    """

    def __init__(self, form: str = "sigma", *, batch: int = 2, semantic: int = 0, **facts) -> None:
        null = "all" if form == "t" else "label"
        self.facts = UNetFacts(
            form, SIZE, batch, FER2013_LABELS, semantic, "vae" if semantic else "label", null,
            **facts,
        )  # fmt: skip
        network = unet_network(
            "diffusion_any", form, labels=7, semantic=semantic, batch=batch, size=SIZE
        )
        metadata = {f"mien.{key}": text for key, text in self.facts.words.items()}
        self.engine = FakeEngine(network, self.answer, metadata)
        self.calls: list[tuple[np.ndarray, float]] = []

    def answer(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x, form = feeds["x"].astype(np.float64), self.facts.form
        level = feeds[form].astype(np.float64)
        self.calls.append((feeds["x"], float(level[0])))
        sigma = level if form == "sigma" else paper_sigmas()[np.round(level).astype(int)]
        sigma = sigma[:, None, None, None]
        if form == "t":
            x = x * np.sqrt(1 + sigma**2)
        label = feeds["label"] * (feeds["label"].sum(1, keepdims=True) <= 1)
        mean = (label @ MEANS * feeds["cond_scale"])[:, None, None, None]
        clean = (SPREAD**2 * x + sigma**2 * mean) / (SPREAD**2 + sigma**2)
        found = (x - clean) / sigma if form == "t" else clean
        return {"noise" if form == "t" else "denoised": found.astype(np.float32)}


def label_of(place: int) -> np.ndarray:
    return np.eye(7, dtype=np.float32)[place : place + 1]


def faces(count: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (SPREAD * rng.standard_normal((count, 1, SIZE, SIZE))).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("form", ["sigma", "t"])
@pytest.mark.parametrize(("solver", "near"), [("ddim", 0.06), ("heun", 0.03)])
def test_noise_becomes_the_picture_that_it_should(form: str, solver: str, near: float) -> None:
    options = SamplerOptions(steps=100, guidance=1, start=FROM_NOISE, solver=solver)  # type: ignore[arg-type]
    sampler = Sampler(Normal(form).engine, options)
    latent = sampler.noise(3)
    sigma = sampler.levels.sigmas[0]
    assert abs(latent.std() / sigma - 1) < 0.25
    expected = MEANS[5] + (latent - MEANS[5]) * SPREAD / math.hypot(SPREAD, sigma)
    made = sampler.generate(latent, label_of(5))
    # The last step alone, from a noise of 0.05, is off by 3 percent of a pixel's deviation, and
    # pixels reach three deviations of 0.2.
    np.testing.assert_allclose(made, expected.clip(-1, 1), atol=near)


@pytest.mark.parametrize("form", ["sigma", "t"])
def test_a_face_is_found_again_in_its_own_noise(form: str) -> None:
    sampler = Sampler(Normal(form).engine, SamplerOptions(steps=60, guidance=1))
    face = faces(3)
    latent = sampler.invert(face)
    sigma = sampler.levels.sigmas[0]
    np.testing.assert_allclose(latent, face * math.hypot(SPREAD, sigma) / SPREAD, rtol=0.08)
    np.testing.assert_allclose(sampler.reconstruct(latent), face, atol=0.06)
    edited = sampler.edit(face, label_of(6))
    share = SPREAD / math.hypot(SPREAD, sigma)
    np.testing.assert_allclose(edited - face, MEANS[6] * (1 - share), atol=0.08)


def test_the_papers_sampler_draws_what_its_own_loop_draws() -> None:
    """All 999 steps of DDPM, algorithm 2, as the public code writes it."""
    network = Normal("t", batch=1)
    options = SamplerOptions(steps=999, guidance=1, start=FROM_NOISE, solver="ddpm", seed=5)
    sampler = Sampler(network.engine, options)
    made = sampler.generate(sampler.noise(2), label_of(1), tracks=[2])
    beta = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - beta)
    x = sampler.noise(2).astype(np.float64) * kept[999] ** 0.5
    for step, t in enumerate(range(999, 0, -1)):
        feeds = {
            "x": x.astype(np.float32),
            "t": np.array([t], np.float32),
            "label": label_of(1),
            "cond_scale": np.ones(1, np.float32),
        }
        noise = network.answer(feeds)["noise"]
        x = (x - beta[t] / (1 - kept[t]) ** 0.5 * noise) / (1 - beta[t]) ** 0.5
        if t > 1:
            x = x + beta[t] ** 0.5 * seeded_noise(5, 2, x.shape, step=step + 1)
    np.testing.assert_allclose(made, x.clip(-1, 1), atol=0.03)


def test_ddpm_draws_faces_as_spread_as_they_are() -> None:
    options = SamplerOptions(steps=80, guidance=1, start=FROM_NOISE, solver="ddpm")
    sampler = Sampler(Normal(batch=16).engine, options)
    tracks = range(16)
    latent = np.concatenate([sampler.noise(track) for track in tracks])
    made = sampler.generate(latent, label_of(3), tracks=list(tracks))
    assert abs(made.std() / SPREAD - 1) < 0.12
    assert abs(made.mean() - MEANS[3]) < 0.05


def test_guidance_is_one_call_of_two_rows() -> None:
    network = Normal(batch=2)
    sampler = Sampler(network.engine, SamplerOptions(steps=4, guidance=3))
    sampler.generate(sampler.noise(0), label_of(6))
    assert len(network.calls) == 4
    for rows, _ in network.calls:
        assert np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("form", ["sigma", "t"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_of_the_network_gives_the_same(form: str, batch: int) -> None:
    options = SamplerOptions(steps=5, guidance=2.5)
    expected = Sampler(Normal(form, batch=2).engine, options).edit(faces(3), label_of(2))
    found = Sampler(Normal(form, batch=batch).engine, options).edit(faces(3), label_of(2))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_guidance_goes_beyond_the_condition() -> None:
    at = [
        Sampler(Normal().engine, SamplerOptions(steps=30, guidance=guidance))
        .edit(faces(), label_of(6))
        .mean()
        for guidance in (0, 1, 1.5)
    ]
    assert at[0] < at[1] < at[2]
    assert (at[2] - at[0]) / (at[1] - at[0]) == pytest.approx(1.5, rel=0.02)


def test_noise_is_the_tracks_own_and_stays() -> None:
    first, second = (Sampler(Normal().engine, SamplerOptions(seed=9)) for _ in range(2))
    assert first.noise(4).tobytes() == second.noise(4).tobytes()
    assert not np.array_equal(first.noise(4), first.noise(5))
    other = Sampler(Normal().engine, SamplerOptions(seed=0))
    assert not np.array_equal(first.noise(4), other.noise(4))
    face = faces(2)
    moved = first.disturb(face, 4) - first.disturb(face[::-1], 4)
    np.testing.assert_allclose(moved, face - face[::-1], atol=1e-6)
    alone = seeded_noise(9, 4, (1, 1, 2, 2), step=1)
    assert not np.array_equal(alone, seeded_noise(9, 4, (1, 1, 2, 2), step=2))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    options = SamplerOptions(steps=6, solver="ddpm")
    sampler = Sampler(Normal().engine, options)
    latent = np.concatenate([sampler.noise(track) for track in (7, 8)])
    both = sampler.generate(latent, label_of(0), tracks=[7, 8])
    alone = sampler.generate(latent[1:], label_of(0), tracks=[8])
    np.testing.assert_array_equal(both[1:], alone)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_student_costs_a_call_a_step_each_way(steps: int) -> None:
    sigmas = (*(2.5 * 0.3**i for i in range(steps)), 0.0)
    network = Normal(batch=1, sigmas=sigmas, guidance=3.0)
    sampler = Sampler(network.engine)
    latent = sampler.invert(faces())
    assert len(network.calls) == steps
    sampler.generate(latent, label_of(4))
    assert len(network.calls) == 2 * steps
    told = [level for _, level in network.calls]
    np.testing.assert_allclose(told[steps:], sigmas[:-1], rtol=1e-4)
    np.testing.assert_allclose(told[1:steps], sigmas[steps - 1 : 0 : -1], rtol=1e-4)
    assert told[0] < 0.02


def test_progress_is_told_within_a_frame() -> None:
    told: list[tuple[int, int]] = []
    sampler = Sampler(
        Normal().engine, SamplerOptions(steps=3), lambda done, total: told.append((done, total))
    )
    sampler.edit(faces(), label_of(0))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


def test_inputs_are_not_written_to() -> None:
    sampler = Sampler(Normal(semantic=3).engine, SamplerOptions(steps=2))
    face, label, code = faces(), label_of(1), np.ones((1, 3), np.float32)
    given = [array.copy() for array in (face, label, code)]
    sampler.edit(face, label, code)
    for array, before in zip((face, label, code), given, strict=True):
        np.testing.assert_array_equal(array, before)


def test_levels_fall_from_the_start_to_nothing() -> None:
    for form, steps, start in (
        ("sigma", 10, 2.5),
        ("sigma", 1, 2.5),
        ("t", 50, FROM_NOISE),
        ("t", 7, 2.5),
        ("t", 999, FROM_NOISE),
    ):
        levels = levels_of(Normal(form).facts, steps, start)
        assert levels.steps == steps
        assert levels.sigmas[-1] == 0
        assert (np.diff(levels.sigmas) < 0).all()
        assert levels.sigmas[0] <= start
        up = levels.upwards()
        assert up.sigmas[-1] == levels.sigmas[0]
        assert (np.diff(up.sigmas) >= 0).all()
    whole = levels_of(Normal("t").facts, 999, FROM_NOISE)
    assert whole.told[0] == 999
    assert whole.told[-1] == 1
    assert whole.sigmas[0] == pytest.approx(math.sqrt(1 - 0.00635**2) / 0.00635, rel=0.01)
    assert isinstance(whole, Levels)
    np.testing.assert_allclose(crowded_sigmas(8, 2.5)[[0, -2]], (2.5, 0.05))


def test_a_mix_of_emotions_is_put_in_the_networks_order() -> None:
    facts = Normal().facts
    weights = label_weights(facts, parse_target("happy:0.7+surprised:0.3"))
    assert weights.shape == (1, 7)
    assert weights[0, FER2013_LABELS.index("happy")] == pytest.approx(0.7)
    assert weights[0, FER2013_LABELS.index("surprised")] == pytest.approx(0.3)
    with pytest.raises(UsageError, match="not contemptuous"):
        label_weights(facts, parse_target("contempt"))


STUDENT = {"sigmas": (2.5, 0.0), "guidance": 3.0}


@pytest.mark.parametrize(
    ("options", "facts", "words"),
    [
        ({"steps": 0}, {}, "1..999, not 0"),
        ({"steps": -3}, {}, "1..999"),
        ({"steps": 1000}, {}, "1..999, not 1000"),
        ({"steps": 2.5}, {}, "whole number"),
        ({"steps": True}, {}, "whole number"),
        ({"guidance": math.nan}, {}, "guidance is a number"),
        ({"guidance": math.inf}, {}, "guidance is a number"),
        ({"guidance": "strong"}, {}, "not 'strong'"),
        ({"guidance": -1}, {}, "guidance is a number"),
        ({"seed": -1}, {}, "a seed is a whole number"),
        ({"seed": 1.5}, {}, "a seed is a whole number"),
        ({"start": 0.0}, {}, "noise level"),
        ({"start": math.nan}, {}, "noise level"),
        ({"solver": "plms"}, {}, "ddim, ddpm, heun"),
        ({"steps": 900, "start": 2.5}, {"form": "t"}, r"has \d+ steps below the noise level 2\.5"),
        ({"steps": 4}, STUDENT, "a student of 1 steps, not 4"),
        ({"guidance": 2.0}, STUDENT, "guidance 3 in it"),
        ({"solver": "heun"}, STUDENT, "distilled for ddim"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, facts: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        Sampler(Normal(**facts).engine, SamplerOptions(**options))
    assert "\n" not in str(raised.value)


def test_a_students_own_steps_and_guidance_may_be_named() -> None:
    sampler = Sampler(Normal(**STUDENT).engine, SamplerOptions(steps=1, guidance=3))
    assert sampler.levels.steps == 1
    assert Sampler(Normal().engine).levels.steps == DEFAULT_STEPS


def test_a_code_of_the_wrong_width_names_both() -> None:
    sampler = Sampler(Normal(semantic=128).engine, SamplerOptions(steps=1))
    for code, received in ((np.zeros((1, 256), np.float32), "256"), (None, "0")):
        with pytest.raises(UsageError, match=rf"has {received} numbers.*takes 128"):
            sampler.invert(faces(), code)
    with pytest.raises(UsageError, match=r"has 5 numbers.*takes 0"):
        Sampler(Normal().engine).invert(faces(), np.zeros((1, 5), np.float32))
    with pytest.raises(UsageError, match="each of 2 faces"):
        sampler.invert(faces(2), np.zeros((1, 128), np.float32))


@pytest.mark.parametrize(
    ("face", "label", "words"),
    [
        (np.zeros((1, 1, 4, 4), np.float32), label_of(0), "takes faces"),
        (np.zeros((0, 1, SIZE, SIZE), np.float32), label_of(0), "takes faces"),
        (faces(), np.zeros((1, 6), np.float32), "7 weights a face"),
        (faces(3), np.zeros((2, 7), np.float32), "for 3 faces"),
    ],
)
def test_faces_and_labels_of_other_shapes_are_refused(
    face: np.ndarray, label: np.ndarray, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Sampler(Normal().engine, SamplerOptions(steps=1)).edit(face, label)
