"""Tiny diffusion networks with random weights, exported as mien's own are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from mien.engines import Catalog, ModelEntry, Network, record_model
from mien.engines.diffusion import (
    FER2013_LABELS,
    UNetFacts,
    encoder_name,
    encoder_network,
    unet_name,
    unet_network,
)
from mien.export.models.diffusion_encoders import VaeEncoder, VaeSpec
from mien.export.models.small_unet import SmallSpec, SmallUNet
from mien.export.onnx_file import sha256_of, to_onnx

CODE = 8
STUDENT_SIGMAS = (2.5, 0.6, 0.0)
STUDENT_GUIDANCE = 2.0


def forget_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the diffusion networks that come with mien out of the bundled catalog."""
    others = [e for e in Catalog.bundled().entries if not e.network.startswith("diffusion_")]
    monkeypatch.setattr(Catalog, "bundled", classmethod(lambda _: Catalog(tuple(others))))


def write_unet(folder: Path, condition: str, *, code: int = CODE) -> Path:
    """Adds a UNet of a condition to a folder of models."""
    torch.manual_seed(7)
    semantic = 0 if condition == "label" else code
    module = SmallUNet(SmallSpec(7, semantic, widths=(16, 16), blocks=1, embedding=16))
    _shake(module)
    network = unet_network(unet_name(condition), "sigma", labels=7, semantic=semantic)
    facts = UNetFacts("sigma", 48, 2, FER2013_LABELS, semantic, condition, "label")
    return _write(folder, module.eval(), network, facts.words)


def write_student(folder: Path, condition: str) -> Path:
    """Adds a student with the weights of the condition's UNet, which lies in the folder."""
    teacher, steps = unet_name(condition), len(STUDENT_SIGMAS) - 1
    model = onnx.load(folder / f"{teacher}.onnx")
    stated = {entry.key: entry.value for entry in model.metadata_props}
    network = replace(Network.from_metadata(stated), name=unet_name(condition, steps))
    sigmas = ",".join(map(str, STUDENT_SIGMAS))
    stated |= {"mien.sigmas": sigmas, "mien.guidance": str(STUDENT_GUIDANCE)}
    helper.set_model_props(model, stated | network.metadata())
    onnx.save(model, folder / f"{network.name}.onnx")
    return _record(folder, network)


def write_encoder(folder: Path, condition: str = "vae", *, code: int = CODE) -> Path:
    """Adds an encoder of a condition, a VAE's whatever the condition, to a folder of models."""
    torch.manual_seed(8)
    module = VaeEncoder(VaeSpec(code, (4, 4, 4, 4, 4)))
    network = encoder_network(encoder_name(condition), code=code)
    return _write(folder, module.eval(), network, {})


def _shake(module: nn.Module) -> None:
    """Give weights to what begins at nothing, the label's the most: it is to be seen."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if not weight.any():
                weight.normal_(0, 0.1)
            if name in ("label.weight", "semantic.weight"):
                weight.mul_(8)


def _write(folder: Path, module: nn.Module, network: Network, facts: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{network.name}.onnx"
    to_onnx(module, network, path, facts={"paper": "any", **facts})
    return _record(folder, network)


def _record(folder: Path, network: Network) -> Path:
    path = folder / f"{network.name}.onnx"
    card = path.with_suffix(".md")
    card.write_text("random weights\n")
    entry = ModelEntry(
        f"my-{network.name}", network.name, path.name, sha256_of(path), "nothing", 0.0, {"any": 1},
        "Apache-2.0", card.name, folder,
    )  # fmt: skip
    record_model(entry)
    return folder
