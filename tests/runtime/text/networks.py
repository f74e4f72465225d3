"""A folder of untrained networks that draw faces from sentences, through the real exporter."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from mien.engines import ModelEntry, record_model
from mien.engines.network import Network
from mien.engines.text_faces import image_encoder_network
from mien.export.__main__ import main
from mien.export.models.damsm import REGIONS, SmallImageEncoder
from mien.export.onnx_file import to_onnx
from tests.export.checkpoints.files import saved
from tests.export.public_latents import settled
from tests.export.public_text_faces import (
    SMALL,
    VOCABULARY,
    encoder_state,
    generator_state,
    write_captions,
)


def write_text_models(folder: Path, *, ranks: bool = True, draws: bool = True) -> Path:
    """The folder; ranks: with an image encoder. draws: with a generator."""
    files = folder.parent / "files"
    files.mkdir(exist_ok=True)
    captions = write_captions(files / "captions.pickle")
    encoder = saved(
        encoder_state(len(VOCABULARY) + 1, hidden=SMALL.nef // 2), files / "text_encoder.pth"
    )
    generator = saved(generator_state(SMALL), files / "netG_epoch_1.pth")
    assert main([str(encoder), "--into", str(folder), "--vocabulary", str(captions)]) == 0
    if draws:
        assert main([str(generator), "--into", str(folder)]) == 0
    if ranks:
        torch.manual_seed(1)
        module = settled(SmallImageEncoder(SMALL.nef, channels=4))
        keep(folder, image_encoder_network(128, regions=REGIONS, width=SMALL.nef), module)
    return folder


def keep(folder: Path, network: Network, module: nn.Module) -> None:
    """Put a module into a folder of models."""
    path = folder / f"{network.name}.onnx"
    to_onnx(module, network, path, facts={"source": "tests"})
    path.with_suffix(".md").write_text("a test's\n")
    record_model(
        ModelEntry(
            network.name, network.name, path.name, hashlib.sha256(path.read_bytes()).hexdigest(),
            "nothing", 0.0, {}, "Apache-2.0", f"{network.name}.md", folder,
        )
    )  # fmt: skip
