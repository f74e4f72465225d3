"""The diffusion paper's networks, from public checkpoints to what the sampler takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import shape_inference
from torch import nn

from mien.calibration.audit.examine import audit
from mien.engines.diffusion import FER2013_LABELS, unet_facts, unet_network
from mien.engines.errors import ModelError
from mien.engines.ort.backend import OnnxRuntimeEngine
from mien.export.__main__ import main
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.diffusion import (
    MOST_SCORES,
    PaperUNet,
    Projections,
    UNetSpec,
    attend,
    positions,
)
from mien.export.models.small_unet import SIGMA_DATA, SmallSpec, SmallUNet
from mien.runtime.methods.diffusion.sampler import Sampler, SamplerOptions
from tests.export.checkpoints.files import (
    SMALL_CNN,
    SMALL_PAPER_UNET,
    SMALL_UNET,
    SMALL_VAE,
    Malicious,
    module_of,
    saved,
    state_of,
)

STUDENT = SmallSpec(widths=(16, 16), blocks=1, embedding=8, steps=2)


def test_attention_is_that_of_torch_and_keeps_no_large_score_matrix() -> None:
    torch.manual_seed(0)
    theirs, mine = nn.MultiheadAttention(8, 4, batch_first=True), Projections(8)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 50, 8)
    torch.testing.assert_close(mine(x), theirs(x, x, x)[0])
    seen: list[int] = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = super().__torch_function__(function, types, args, kwargs or {})
            if getattr(function, "__name__", "") == "softmax":
                seen.append(made.numel())
            return made

    query = torch.randn(1, 4, 2304, 2)
    blocks = attend(query.as_subclass(Watched), query, query)
    assert len(seen) > 1
    assert max(seen) <= MOST_SCORES < 4 * 2304**2
    whole = torch.softmax(query @ query.transpose(2, 3) * 2**-0.5, -1) @ query
    torch.testing.assert_close(blocks.as_subclass(torch.Tensor), whole)


def test_the_condition_is_dropped_wholly_and_the_timestep_is_not() -> None:
    module = module_of(SMALL_PAPER_UNET)
    x, label, code = torch.randn(1, 1, 16, 16), torch.eye(7)[:1], torch.randn(1, 128)
    at = torch.tensor([500.0])
    with torch.no_grad():
        dropped = module(x, at, label, code, torch.zeros(1))
        other = module(x, at, label.roll(3, 1), -code, torch.zeros(1))
        said = module(x, at, label, code, torch.ones(1))
        later = module(x, at + 100, label, code, torch.zeros(1))
    torch.testing.assert_close(dropped, other)
    assert (said - dropped).abs().max() > 1e-5
    assert (later - dropped).abs().max() > 1e-5


def test_a_label_is_its_row_of_the_public_table_added_to_sines_and_cosines() -> None:
    module = module_of(UNetSpec(7, 0, 4))
    assert isinstance(module, PaperUNet)
    given: list[torch.Tensor] = []
    module.down1.emb_layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        module(torch.zeros(1, 1, 8, 8), torch.tensor([3.0]), torch.eye(7)[4:5], torch.ones(1))
    angles = 3 / 10000 ** (torch.arange(0, 256, 2) / 256)
    expected = torch.cat([angles.sin(), angles.cos()]) + module.label_emb.weight[4]
    torch.testing.assert_close(given[0][0], expected)
    assert positions(torch.tensor([3.0])).shape == (1, 256)


def test_the_small_network_trusts_the_picture_at_low_noise_and_not_at_high() -> None:
    module = module_of(SMALL_UNET)
    x = torch.randn(2, 1, 48, 48)
    condition = torch.eye(7)[:2], torch.randn(2, 5), torch.ones(2)
    with torch.no_grad():
        low = module(x, torch.tensor([0.002, 0.002]), *condition)
        high = module(80 * x, torch.tensor([80.0, 80.0]), *condition)
    assert (low - x).abs().max() < 0.05
    assert high.std() < 3 * SIGMA_DATA


@pytest.mark.parametrize(
    ("spec", "name", "inputs"),
    [
        (SMALL_PAPER_UNET, "diffusion_vae", ["x", "t", "label", "semantic", "cond_scale"]),
        (UNetSpec(7, 256, 4), "diffusion_cnn", ["x", "t", "label", "semantic", "cond_scale"]),
        (UNetSpec(7, 0, 4), "diffusion_label", ["x", "t", "label", "cond_scale"]),
        (replace(SMALL_UNET, semantic=0), "diffusion_label", ["x", "sigma", "label", "cond_scale"]),
        (STUDENT, "diffusion_label_2", ["x", "sigma", "label", "cond_scale"]),
        (SMALL_VAE, "diffusion_vae_encoder", ["image"]),
        (SMALL_CNN, "diffusion_cnn_encoder", ["image"]),
    ],
    ids=["paper with VAE", "paper with CNN", "paper", "small", "student", "VAE", "CNN"],
)
def test_a_checkpoint_becomes_a_model_that_the_audit_passes(
    spec: object, name: str, inputs: list[str], tmp_path: Path
) -> None:
    module = module_of(spec)
    for weight in module.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    if isinstance(module, SmallUNet) and module.spec.steps:
        module.sigmas.copy_(torch.tensor([2.5, 0.3, 0.0]))
        module.guidance.fill_(3.0)
    state = dict(module.state_dict())
    if spec is SMALL_VAE:  # as Lightning saves it, decoder and all
        state = {f"model.{key}": tensor for key, tensor in state.items()}
        state |= {"model.fc_var.weight": torch.zeros(128, 32), "model.decoder_input.bias": state[
            "model.fc_mu.bias"]}  # fmt: skip
        held: object = {"epoch": 99, "callbacks": {}, "state_dict": state}
    else:
        held = state
    source, path = saved(held, tmp_path / "any.ckpt"), tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path)]) == 0
    report = audit(path)
    assert not [found for found in report.findings if found.severity != "note"]
    with OnnxRuntimeEngine(path, name) as engine:
        assert [spec.name for spec in engine.network.inputs] == inputs
        assert float(engine.metadata["mien.parity_error"]) <= 1e-4
        if not name.endswith("encoder"):
            facts = unet_facts(engine)
            assert facts.labels == FER2013_LABELS
            assert facts.batch == (1 if spec is STUDENT else 2)
            assert (facts.null == "all") == ("t" in inputs)
        if spec is STUDENT:
            assert facts.guidance == 3.0
            np.testing.assert_allclose(facts.sigmas, (2.5, 0.3, 0.0), rtol=1e-5)


def test_no_scores_of_the_papers_network_are_large_in_its_graph(tmp_path: Path) -> None:
    source = saved(state_of(UNetSpec(7, 0, 4)), tmp_path / "ema_ckpt.pt")
    path = tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path), "--batch", "1"]) == 0
    graph = shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    scores = [shapes[node.output[0]] for node in graph.node if node.op_type == "Softmax"]
    assert len(scores) > 6, "the last of six is in blocks"
    assert max(map(np.prod, scores)) <= MOST_SCORES
    assert not any(node.op_type == "Attention" for node in graph.node)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    """Of a network whose layers are as wide as the trained one's: they are what is divided."""
    spec = SmallSpec(widths=(48, 96), blocks=1, embedding=32)
    module = module_of(spec)
    for weight in module.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.1)
    source, path = saved(dict(module.state_dict()), tmp_path / "a.pt"), tmp_path / "made.onnx"
    assert main([str(source), "-o", str(path)]) == 0
    face = np.random.default_rng(1).uniform(-1, 1, (1, 1, 48, 48)).astype(np.float32)
    label = np.eye(7, dtype=np.float32)[3:4]
    made = []
    for threads in (1, 2, 5):
        with OnnxRuntimeEngine(path, "diffusion_label", threads=threads) as engine:
            sampler = Sampler(engine, SamplerOptions(steps=3, seed=7, solver="ddpm"))
            made.append(sampler.generate(sampler.disturb(face, 4), label, tracks=[4]).tobytes())
            made.append(sampler.edit(face, label).tobytes())
    assert len(set(made[::2])) == 1
    assert len(set(made[1::2])) == 1


def changed(state: dict[str, torch.Tensor], **others: torch.Tensor | None) -> dict:
    made = {**state, **{key.replace("__", "."): value for key, value in others.items()}}
    return {key: value for key, value in made.items() if value is not None}


BAD = {
    "8 label rows": ("label_emb has 8 rows, expected 7", UNetSpec(8, 0, 4), {}),
    "no label": ("lacks label_emb.weight", SMALL_PAPER_UNET, {"label_emb__weight": None}),
    "colour": ("takes 3 channels", SMALL_PAPER_UNET, {
        "inc__double_conv__0__weight": torch.zeros(4, 3, 3, 3)}),
    "bot2": ("has bot2", SMALL_PAPER_UNET, {
        "bot2__double_conv__0__weight": torch.zeros(4, 4, 3, 3)}),
    "a wrong code": ("label_emb has 128 columns", SMALL_PAPER_UNET, {
        "sem_emb__weight": None, "sem_emb__bias": None}),
    "half of a UNet": ("it lacks outc.bias", SMALL_PAPER_UNET, {"outc__bias": None}),
    "another width": ("outc.weight is", SMALL_PAPER_UNET, {
        "outc__weight": torch.zeros(2, 4, 1, 1)}),
    "odd heads": ("heads do not divide", SMALL_PAPER_UNET, {
        "inc__double_conv__0__weight": torch.zeros(6, 1, 3, 3)}),
    "half of a small UNet": ("it lacks", SMALL_UNET, {"middle__0__conv1__weight": None}),
    "steps beyond any": ("100 steps", SMALL_UNET, {"sigmas": torch.zeros(101)}),
    "a VAE of 128 pixels": ("fc_mu takes 128", SMALL_VAE, {
        "fc_mu__weight": torch.zeros(128, 128)}),
    "a VAE of four layers": ("has 4 layers", replace(SMALL_VAE, widths=(4, 4, 8, 8)), {}),
    "half of a VAE": ("lacks encoder.4.0.weight", SMALL_VAE, {"encoder__4__0__weight": None}),
    "a colour classifier": ("takes 2 channels", SMALL_CNN, {
        "features__0__weight": torch.zeros(4, 2, 3, 3)}),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_checkpoints_that_do_not_fit_are_refused_in_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, spec, others = BAD[case]
    source = saved(changed(state_of(spec), **others), tmp_path / "bad.pt")
    assert main([str(source), "-o", str(tmp_path / "made.onnx")]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "made.onnx").exists()


def test_a_truncated_or_hostile_lightning_file_is_refused_and_not_run(tmp_path: Path) -> None:
    whole = saved({"state_dict": state_of(SMALL_VAE)}, tmp_path / "vae.ckpt")
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ModelError, match="cut off or damaged"):
        read_checkpoint(cut)
    trace = tmp_path / "trace"
    held = {"state_dict": state_of(SMALL_VAE), "callbacks": Malicious(trace)}
    with pytest.raises(ModelError, match="runs nothing"):
        read_checkpoint(saved(held, tmp_path / "hostile.ckpt"))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        (UNetSpec(7, 0, 4), ["--network", "diffusion_vae"], "no semantic code"),
        (SMALL_PAPER_UNET, ["--network", "diffusion_label"], "code of 128 numbers"),
        (SMALL_PAPER_UNET, ["--network", "stargan_image"], "cannot become stargan_image"),
        (SMALL_UNET, [], "semantic code has 5 numbers"),
        (SMALL_PAPER_UNET, ["--size", "50"], "multiples of 8"),
        (SMALL_PAPER_UNET, ["--labels", "happy,sad"], "has 2 names, but the checkpoint has 7"),
        (SMALL_PAPER_UNET, ["--batch", "1000"], "--batch must lie"),
        (SMALL_VAE, ["--size", "32"], "33..64"),
        (SMALL_CNN, ["--size", "64"], "takes 48 pixels"),
        (SMALL_VAE, ["--labels", "a,b"], "--labels says nothing"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    spec: object,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = saved(state_of(spec), tmp_path / "any.pt")
    assert main([str(source), "-o", str(tmp_path / "made.onnx"), *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_batch_of_any_size_says_the_same() -> None:
    """Row by row or together: what makes guidance one call."""
    for spec, level in ((SMALL_PAPER_UNET, 300.0), (SMALL_UNET, 0.7)):
        module = module_of(spec)
        form = "t" if isinstance(module, PaperUNet) else "sigma"
        network = unet_network("any", form, labels=7, semantic=spec.semantic, batch=3)
        torch.manual_seed(2)
        given = [torch.rand(s.shape) for s in network.inputs]
        given[1].fill_(level)
        with torch.no_grad():
            whole = module(*given)
            rows = torch.cat([module(*(g[i : i + 1] for g in given)) for i in range(3)])
        torch.testing.assert_close(whole, rows)


def test_the_public_sizes_are_the_papers(tmp_path: Path) -> None:
    for rows, semantic, count, tensors in ((7, 0, 15_660_929, 177), (10, 128, 15_678_465, 179)):
        with torch.device("meta"):
            module = PaperUNet(UNetSpec(rows, semantic))
        found = sum(weight.numel() for weight in module.parameters())
        assert abs(found - count) < 20_000, "15.66 to 15.70 million, as in the public code"
        assert len(module.state_dict()) == tensors
    shown = saved(state_of(UNetSpec(7, 0, 4)), tmp_path / "a.pt")
    assert isinstance(recognise(read_checkpoint(shown)).module, PaperUNet)
