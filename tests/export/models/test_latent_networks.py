"""Encoders, ArcFace, mappers, walks, CLIP and ResNets: against their texts, and exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.engines import OnnxRuntimeEngine
from mien.export.__main__ import main
from mien.export.checkpoints.names import CELEBA
from mien.export.models.irse import ArcFace, EncoderSpec, LatentEncoder
from mien.export.models.resnet_outputs import ResNetOutputs, ResNetOutputsSpec
from mien.export.models.trunks import ResNetStage
from tests.export.checkpoints.files import saved
from tests.export.public_latents import (
    SMALL_ENCODER,
    State,
    arcface_state,
    clip_state,
    encoder_state,
    mapper_state,
    settled,
    slow_arcface,
    slow_clip_image,
    slow_clip_text,
    slow_encoder,
    slow_mapper,
)
from tests.export.public_stylegan2 import public_state, slow_images, slow_mapping

OPTIONS = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": True, "stylegan_size": 9}
Feeds = dict[str, np.ndarray]


def exported(
    held: object, folder: Path, network: str, *arguments: str, capsys: object = None
) -> tuple[dict[str, str], Path]:
    """What the graph states of itself, and where it is."""
    source, path = saved(held, folder / "file.pt"), folder / "made.onnx"
    assert main([str(source), "-o", str(path), *arguments]) == 0
    facts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert f'"name": "{network}"' in facts["mien.network"]
    return facts, path


def run(path: Path, network: str, **feeds: torch.Tensor) -> torch.Tensor:
    with OnnxRuntimeEngine(path, network) as engine:
        results = engine.infer({name: tensor.numpy() for name, tensor in feeds.items()})
    return torch.from_numpy(next(iter(results.values())))


@pytest.mark.parametrize("deltas", [True, False], ids=["e4e", "pSp"])
def test_an_encoder_is_that_of_its_paper(deltas: bool, tmp_path: Path) -> None:
    state = encoder_state(SMALL_ENCODER)
    average = state.pop("latent_avg")
    kind = "Encoder4Editing" if deltas else "GradualStyleEncoder"
    held = {"state_dict": state, "latent_avg": average, "opts": {"encoder_type": kind}}
    facts, path = exported(held, tmp_path, "latent_encoder", "--batch", "2")
    assert facts["mien.heads"] == ("e4e" if deltas else "psp")
    assert facts["mien.average"] == "stored"
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    expected = slow_encoder(
        state | {"latent_avg": average}, replace(SMALL_ENCODER, deltas=deltas), image
    )
    found = run(path, "latent_encoder", image=image)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_average_of_an_encoder_may_be_one_code_or_come_from_its_generator(
    tmp_path: Path,
) -> None:
    state = encoder_state(SMALL_ENCODER)
    state.pop("latent_avg")
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    generator = public_state([8, 8], style=64, layers=2)
    state |= {f"decoder.{key}": tensor for key, tensor in generator.items()}
    facts, path = exported({"state_dict": state, "opts": OPTIONS}, tmp_path, "latent_encoder")
    assert facts["mien.average"] == "mean of 4096 draws, seed 0"
    draws = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    one = slow_mapping(generator, draws).mean(0)
    expected = slow_encoder(state | {"latent_avg": one}, SMALL_ENCODER, image)
    found = run(path, "latent_encoder", image=image)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    network = "stylegan2_synthesis"
    _, path = exported(
        {"state_dict": state, "opts": OPTIONS}, tmp_path, network, "--network", network,
        "--overwrite",
    )  # fmt: skip
    codes = torch.randn(1, 4, 64)
    torch.testing.assert_close(
        run(path, network, codes=codes), slow_images(generator, codes), atol=1e-4, rtol=1e-4
    )


def test_an_encoder_that_does_not_say_what_it_gives_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = encoder_state(SMALL_ENCODER)
    average = state.pop("latent_avg")
    source = saved({"state_dict": state, "latent_avg": average}, tmp_path / "file.pt")
    arguments = [str(source), "-o", str(tmp_path / "made.onnx")]
    assert main(arguments) == 2
    assert "add --encoder e4e or --encoder psp" in capsys.readouterr().err
    del state["encoder.styles.3.convs.0.bias"]
    saved({"state_dict": state, "latent_avg": average}, source)
    assert main([*arguments, "--encoder", "psp"]) == 2
    assert "it lacks styles.3.convs.0.bias" in capsys.readouterr().err
    saved({"state_dict": encoder_state(SMALL_ENCODER) | {"latent_avg": torch.ones(3)}}, source)
    assert main([*arguments, "--encoder", "psp"]) == 2
    assert "its latent_avg is (3,), not (10, 64)" in capsys.readouterr().err


def test_public_encoders_and_arcface_have_the_public_names() -> None:
    """621 and 397 names are in the public files."""
    with torch.device("meta"):
        encoder = LatentEncoder(EncoderSpec(18, deltas=True))
        arcface = ArcFace()
    assert len(encoder.state_dict()) - 1 == 621
    own = {"rows", "columns"}  # of the crop in the graph
    assert own < set(arcface.state_dict())
    assert len(set(arcface.state_dict()) - own) == 397
    assert "styles.17.convs.10.weight" in encoder.state_dict()
    assert "styles.0.convs.8.weight" not in encoder.state_dict()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("size", [112, 256])
def test_arcface_is_that_of_its_paper(size: int, affine: bool, tmp_path: Path) -> None:
    state = arcface_state(affine=affine)
    _, path = exported(state, tmp_path, "arcface", "--size", str(size))
    image = torch.rand(1, 3, size, size) * 2 - 1
    found = run(path, "arcface", image=image)
    torch.testing.assert_close(found, slow_arcface(state, image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "levels",
    [
        ("course_mapping", "medium_mapping", "fine_mapping"),
        ("course_mapping", "medium_mapping"),
        (),
    ],
)
def test_a_mapper_is_that_of_styleclip(levels: tuple[str, ...], tmp_path: Path) -> None:
    state = mapper_state(levels)
    generator = public_state([8] * 6, style=24, layers=2)
    held = {"state_dict": state | {f"decoder.{k}": t for k, t in generator.items()}}
    held["opts"] = {"description": "surprised", "no_fine_mapper": len(levels) == 2}
    facts, path = exported(held, tmp_path, "latent_mapper", "--batch", "3")
    assert facts["mien.prompt"] == "surprised"
    assert facts["mien.levels"] == (",".join(levels) or "all")
    codes = torch.randn(3, 12, 24)
    for strength in (1.0, 0.0, -0.5):
        found = run(path, "latent_mapper", codes=codes, strength=torch.tensor([strength]))
        expected = codes + strength * (slow_mapper(state, codes, levels) - codes)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_mapper_that_its_options_deny_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = mapper_state(("course_mapping", "fine_mapping"))
    held = {"state_dict": state, "opts": {"no_fine_mapper": True}}
    source = saved(held, tmp_path / "mapper.pt")
    assert main([str(source), "-o", str(tmp_path / "made.onnx")]) == 2
    assert "holds fine_mapping and its opts say no_fine_mapper" in capsys.readouterr().err
    style_space = {"mapper.mapper_0.mapping.1.weight": torch.ones(4, 4)}
    saved({"state_dict": style_space}, source)
    assert main([str(source), "-o", str(tmp_path / "made.onnx")]) == 2
    assert "of style space" in capsys.readouterr().err


def test_a_walk_moves_codes_along_its_directions(tmp_path: Path) -> None:
    w = torch.randn(3, 6, 24)
    facts, path = exported(
        {"w": w}, tmp_path, "latent_walk", "--attributes", "Smiling,Young,Male", "--batch", "2"
    )
    assert facts["mien.attributes"] == "Smiling,Young,Male"
    codes, steps = torch.randn(2, 6, 24), torch.rand(2, 3) * 2 - 1
    mask = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.0, 1.0])
    expected = codes.clone()
    for n in range(2):
        for a in range(3):
            expected[n] += mask[:, None] * steps[n, a] * w[a]
    found = run(path, "latent_walk", codes=codes, steps=steps, mask=mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_towers_of_clip_are_those_of_its_paper(tmp_path: Path) -> None:
    state = clip_state()
    _, path = exported(state, tmp_path, "clip_text", "--batch", "2")
    tokens = torch.tensor([[97, 5, 8, 98] + [0] * 8, [97, *range(20, 30), 98]])
    found = run(path, "clip_text", tokens=tokens)
    torch.testing.assert_close(found, slow_clip_text(state, tokens), atol=1e-4, rtol=1e-4)
    facts, path = exported(state, tmp_path, "clip_image", "--network", "clip_image", "--overwrite")
    assert facts["mien.mean"].startswith("0.48145466")
    image = torch.randn(1, 3, 32, 32)
    found = run(path, "clip_image", image=image)
    torch.testing.assert_close(found, slow_clip_image(state, image), atol=1e-4, rtol=1e-4)


def test_words_after_the_end_of_a_text_change_nothing(tmp_path: Path) -> None:
    _, path = exported(clip_state(), tmp_path, "clip_text", "--batch", "2")
    tokens = torch.tensor([[97, 5, 8, 98] + [0] * 8, [97, 5, 8, 98, 3, 4, 5, 6, 7, 8, 9, 10]])
    found = run(path, "clip_text", tokens=tokens)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("basic", "numbers", "network"),
    [(True, 212, "landmarks_resnet"), (False, 40, "attribute_regressor")],
)
def test_a_resnet_gives_landmarks_or_attributes(
    basic: bool, numbers: int, network: str, tmp_path: Path
) -> None:
    out = 1 if basic else 4
    stages = tuple(ResNetStage(c, c * out, 1) for c in (8, 12, 16, 20))
    module = settled(ResNetOutputs(ResNetOutputsSpec(8, stages, numbers, basic)))
    held: State | dict[str, State] = dict(module.state_dict())
    if not basic:
        held = {"model": held, "optm": {"a": torch.ones(1)}}
    facts, path = exported(held, tmp_path, network, "--size", "64")
    if not basic:
        assert facts["mien.attributes"].split(",")[31] == CELEBA[31] == "Smiling"
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        expected = module(image)
    torch.testing.assert_close(run(path, network, image=image), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [14, 18], ids=["256", "1024"])
def test_e4e_of_public_size_is_exported(layers: int, tmp_path: Path) -> None:
    spec = EncoderSpec(layers, deltas=True)
    state = encoder_state(spec)
    average = state.pop("latent_avg")
    held = {"state_dict": state, "latent_avg": average, "opts": OPTIONS}
    source, path = saved(held, tmp_path / "e4e_ffhq_encode.pt"), tmp_path / "e4e.onnx"
    del held
    assert main([str(source), "-o", str(path), "--max-memory", "2G"]) == 0
    source.unlink()
    image = torch.rand(1, 3, 256, 256) * 2 - 1
    found = run(path, "latent_encoder", image=image)
    with torch.inference_mode():
        expected = slow_encoder(state | {"latent_avg": average}, spec, image)
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()
