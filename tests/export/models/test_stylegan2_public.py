"""StyleGAN2 of the public layout against the paper's text, and exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mien.calibration.audit.examine import audit
from mien.engines import OnnxRuntimeEngine
from mien.engines.errors import ModelError
from mien.engines.face_space import generator_network
from mien.export.__main__ import main
from mien.export.checkpoints.reading import Checkpoint
from mien.export.checkpoints.stylegan2 import generator_of, mapping_of, synthesis_of
from mien.export.models.stylegan2 import Synthesis
from mien.export.models.stylegan2_public import (
    SynthesisNetwork,
    SynthesisSpec,
    TransposedDoubled,
    prepared,
    random_synthesis,
    transposed,
)
from tests.export.checkpoints.files import saved
from tests.export.public_stylegan2 import (
    code_layers,
    psnr_db,
    public_channels,
    public_state,
    slow_images,
    slow_mapping,
    trained_like,
)

TINY = [12, 10, 8]  # 16 pixels
STYLE = 24


def tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    return public_state(TINY, style=STYLE, layers=2, seed=seed)


def tiny_checkpoint(**more: torch.Tensor) -> Checkpoint:
    return Checkpoint(Path("tiny.pt"), "", tiny_state() | more)


def test_the_synthesis_is_that_of_the_paper() -> None:
    synthesis, noise = synthesis_of(generator_of(tiny_checkpoint(), "tiny.pt"))
    assert noise == "stored"
    codes = torch.randn(3, 6, STYLE)
    with torch.inference_mode():
        expected = slow_images(tiny_state(), codes)
        torch.testing.assert_close(synthesis(codes), expected, atol=2e-5, rtol=1e-5)


def test_a_doubling_by_its_phases_is_that_by_a_transposed_convolution() -> None:
    spec = SynthesisSpec(tuple(TINY), STYLE)
    network = random_synthesis(spec)
    codes = torch.randn(2, spec.codes, STYLE)
    with torch.inference_mode():
        by_phases = network(codes)
        other = transposed(network)
        assert sum(isinstance(m, TransposedDoubled) for m in other.modules()) == len(TINY) - 1
        torch.testing.assert_close(by_phases, other(codes), atol=1e-5, rtol=1e-5)


def test_without_noise_it_is_that_of_the_paper_too() -> None:
    synthesis, noise = synthesis_of(generator_of(tiny_checkpoint(), "tiny.pt"), "zero")
    codes = torch.randn(2, 6, STYLE)
    with torch.inference_mode():
        expected = slow_images(tiny_state(), codes, noise=False)
        torch.testing.assert_close(synthesis(codes), expected, atol=2e-5, rtol=1e-5)
    assert noise == "zero"


def test_a_file_without_noise_gets_none_and_the_same_twice() -> None:
    state = {key: t for key, t in tiny_state().items() if not key.startswith("noises.")}
    generator = generator_of(Checkpoint(Path("a.pt"), "", state), "a.pt")
    codes = torch.randn(2, 6, STYLE)
    with torch.inference_mode():
        for policy in (None, "seeded"):
            first, said = synthesis_of(generator, policy)
            second, _ = synthesis_of(generator, policy)
            assert said == (policy or "zero")
            assert torch.equal(first(codes), second(codes))
    with pytest.raises(ModelError, match=r"noise of layer 0, \(1, 1, 4, 4\), it has none"):
        synthesis_of(generator, "stored")


def test_mapping_and_truncation_are_those_of_the_paper() -> None:
    average = torch.randn(STYLE)
    mapping, said = mapping_of(generator_of(tiny_checkpoint(latent_avg=average), "tiny.pt"))
    z = torch.randn(5, STYLE)
    w = slow_mapping(tiny_state(), z)
    with torch.inference_mode():
        torch.testing.assert_close(mapping(z, torch.ones(1)), w, atol=1e-5, rtol=1e-5)
        halfway = average + 0.5 * (w - average)
        torch.testing.assert_close(mapping(z, torch.tensor([0.5])), halfway, atol=1e-5, rtol=1e-5)
    assert said == "stored"


def test_an_average_that_the_file_lacks_is_drawn_the_same_each_time() -> None:
    averages = [mapping_of(generator_of(tiny_checkpoint(), "a"))[0].average for _ in range(2)]
    assert torch.equal(*averages)
    drawn = slow_mapping(tiny_state(), torch.randn(20_000, STYLE)).mean(0)
    torch.testing.assert_close(averages[0], drawn, atol=0.05, rtol=0)


def test_the_network_that_trains_gives_the_same_images() -> None:
    torch.manual_seed(1)
    trained = Synthesis(16, {4: 12, 8: 10, 16: 8}, style_dim=STYLE, colours=1).eval()
    for name, parameter in trained.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    spec = SynthesisSpec((12, 10, 8), STYLE, colours=1, noise=False)
    network = SynthesisNetwork(spec)
    network.load_state_dict(prepared(trained.state_dict(), spec))
    codes = torch.randn(2, 6, STYLE)
    with torch.inference_mode():
        torch.testing.assert_close(network(codes), trained(codes), atol=2e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_batch_of_an_exported_synthesis_may_be_free(tmp_path: Path) -> None:
    synthesis, _ = synthesis_of(generator_of(tiny_checkpoint(), "tiny.pt"))
    path = tmp_path / "free.onnx"
    torch.onnx.export(
        synthesis, (torch.randn(2, 6, STYLE),), str(path), input_names=["codes"],
        opset_version=18, dynamo=True, verbose=False, external_data=False,
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        codes = torch.randn(count, 6, STYLE)
        with torch.inference_mode():
            expected = synthesis(codes).numpy()
        found = session.run(None, {"codes": codes.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "network", ["stylegan2_synthesis", "stylegan2_mapping", "stylegan2_w", "stylegan2_z"]
)
def test_each_network_of_a_training_checkpoint_is_exported(network: str, tmp_path: Path) -> None:
    held = {
        "g": tiny_state(1), "d": {"convs.0.0.weight": torch.ones(2, 2)}, "g_ema": tiny_state(),
        "latent_avg": torch.randn(STYLE), "g_optim": {"state": {}, "param_groups": []},
    }  # fmt: skip
    source = saved(held, tmp_path / "550000.pt")
    path = tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path), "--network", network, "--batch", "2"]) == 0
    facts = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert facts["mien.source"] == "stylegan2"
    assert facts["mien.container"] == "rosinality"
    assert facts.get("mien.noise", "stored") == "stored"
    assert float(facts["mien.parity_error"]) <= 1e-4
    with OnnxRuntimeEngine(path, network) as engine:
        feeds = {
            spec.name: np.full(spec.shape, 0.7, np.float32)
            if spec.name == "psi"
            else np.random.default_rng(0).standard_normal(spec.shape, np.float32)
            for spec in engine.network.inputs
        }
        found = next(iter(engine.infer(feeds).values()))
    state, average = tiny_state(), held["latent_avg"]
    z = torch.from_numpy(next(iter(feeds.values())))
    w = z if network == "stylegan2_w" else None
    if network in ("stylegan2_mapping", "stylegan2_z"):
        w = average + 0.7 * (slow_mapping(state, z) - average)
    if network == "stylegan2_mapping":
        expected = w
    else:
        codes = z if w is None else w[:, None].expand(-1, 6, -1)
        expected = slow_images(state, codes)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_public_sizes_are_exported_as_the_paper_has_them(
    size: int, multiplier: int, tmp_path: Path
) -> None:
    state = public_state(public_channels(size, multiplier))
    source, path = saved({"g_ema": state}, tmp_path / "public.pt"), tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path)]) == 0
    layers = 2 * (size.bit_length() - 1) - 2
    codes = torch.randn(1, layers, 512, generator=torch.Generator().manual_seed(3))
    with OnnxRuntimeEngine(path, generator_network(size, colours=3)) as engine:
        found = engine.infer({"codes": codes.numpy()})["image"]
    with torch.inference_mode():
        expected = slow_images(state, codes)
    scale = max(1.0, expected.abs().max().item())  # images of random weights leave [-1, 1]
    assert np.abs(found - expected.numpy()).max() / scale <= 1e-4


def check_half_precision(state: dict[str, torch.Tensor], folder: Path, *more: str) -> None:
    """FP16 beside FP32 on the same code: finite, 40 dB, and nothing for TensorRT to refuse."""
    source = saved({"g_ema": state}, folder / "public.pt")
    images = []
    codes = torch.randn(
        1, code_layers(state), state["conv1.conv.modulation.weight"].shape[1],
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    for precision in ("fp32", "fp16"):
        path = folder / f"{precision}.onnx"
        assert main([str(source), "-o", str(path), "--precision", precision, *more]) == 0
        with OnnxRuntimeEngine(path, "stylegan2_synthesis") as engine:
            images.append(torch.from_numpy(engine.infer({"codes": codes.numpy()})["image"]))
        assert [found for found in audit(path).findings if found.severity == "error"] == []
    halves = [t for t in onnx.load(str(path)).graph.initializer if t.data_type == 10]
    assert sum(np.prod(t.dims) for t in halves) > sum(
        tensor.numel() for key, tensor in state.items() if key.endswith("1.conv.weight")
    )
    assert torch.isfinite(images[1]).all()
    assert 0.1 < images[0].std() < 2, "images of about [-1, 1]"
    assert psnr_db(images[1], images[0]) >= 40


def test_half_precision_keeps_the_image(tmp_path: Path) -> None:
    channels = [32, 32, 24, 16]
    check_half_precision(trained_like(public_state(channels, style=STYLE, layers=2)), tmp_path)


@pytest.mark.slow
def test_half_precision_keeps_the_image_at_1024_pixels(tmp_path: Path) -> None:
    check_half_precision(trained_like(public_state(public_channels(1024, 2))), tmp_path)


def test_sums_that_leave_half_precision_stay_in_it_here() -> None:
    """Weights as they are add up to many times what those that are prepared do."""
    state = trained_like(public_state([64, 64, 48], style=STYLE, layers=2))
    generator = generator_of(Checkpoint(Path("it.pt"), "", state), "it.pt")
    synthesis, _ = synthesis_of(generator)
    codes = torch.randn(4, 6, STYLE) * 3
    largest = {"plain": 0.0, "prepared": 0.0}

    def note(layer: torch.nn.Module, given: tuple[torch.Tensor, torch.Tensor], _: object) -> None:
        x, code = given
        style = layer.style(code)
        unit = (1e-8 / layer.limit).sqrt()
        s = style[:, :, None, None]
        top = style.abs().amax(1)[:, None, None, None]
        if layer.doubled is None:
            y = torch.nn.functional.conv2d(x * s / top, layer.weight, padding=1)
            largest["prepared"] = max(largest["prepared"], y.abs().max().item())
            plain = (y * top * unit[:, None, None]).abs().max().item()
            largest["plain"] = max(largest["plain"], plain)

    for layer in synthesis.convs:
        layer.register_forward_hook(note)
    with torch.inference_mode():
        synthesis(codes)
    assert largest["prepared"] < 65504 / 100
    assert largest["plain"] > 20 * largest["prepared"]
