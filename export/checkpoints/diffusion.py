"""The networks of the diffusion paper, rebuilt from the tensors of a checkpoint.

Public files: the UNet's `ckpt.pt` and `ema_ckpt.pt` (7 label rows; 10 with a semantic code, of
which 0 to 6 are used), the VAE's Lightning `.ckpt`, and the classifier's state dict. mien's own
recipe writes files of the same layouts and of its small UNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from mien.engines.diffusion import CONDITIONS
from mien.engines.errors import ModelError
from mien.export.checkpoints.loading import load_strictly
from mien.export.checkpoints.reading import shapes_of
from mien.export.models.diffusion import CODE, HEADS, LABELS, PaperUNet, UNetSpec
from mien.export.models.diffusion_encoders import (
    BOTTLENECK,
    CnnEncoder,
    CnnSpec,
    VaeEncoder,
    VaeSpec,
)
from mien.export.models.small_unet import MOST_STUDENT_STEPS, SmallSpec, SmallUNet
from mien.export.models.trunks import Shapes

State = Mapping[str, torch.Tensor]

PUBLIC_ROWS = (LABELS, 10)
LIGHTNING = "model."  # before the names of a network that a Lightning module holds
VAE_LAYER = re.compile(r"encoder\.(\d+)\.0\.")
CNN_CONVOLUTIONS = (0, 3, 8, 11, 16)
SMALL_STAGE = re.compile(r"down\.(\d+)\.(\d+)\.conv1\.weight$")
# Of the VAE, for training only.
DECODER = re.compile(r"^(decoder|decoder_input|final_layer|fc_var)\.")
AT_MOST_LAYERS = 16


def is_paper_unet(shapes: Shapes) -> bool:
    """Whether the names are those of the paper's UNet, or of the code it was made from."""
    return _has(shapes, "inc.double_conv.", "sa1.mha.")


def build_paper_unet(state: State, where: str) -> PaperUNet:
    """The paper's UNet with the weights of a state dict. Raises ModelError, KeyError."""
    shapes = shapes_of(state)
    wide, channels = shapes["inc.double_conv.0.weight"][:2]
    if channels != 1 or any(key.startswith("bot2.") for key in shapes):
        raise ModelError(
            f"it takes {channels} channels"
            + (" and has bot2" if "bot2.double_conv.0.weight" in shapes else "")
            + ": that is the public diffusion code that the paper's was made from; mien takes the "
            "paper's, of one channel"
        )
    if wide % HEADS or not wide:
        raise ModelError(f"it has {wide} channels, which its {HEADS} heads do not divide")
    rows, width = shapes["label_emb.weight"]
    if rows not in PUBLIC_ROWS:
        raise ModelError(
            f"its label_emb has {rows} rows, expected 7 (FER-2013's emotions) or 10 (the public "
            "files with a semantic code); which row is which emotion is not known"
        )
    semantic = shapes["sem_emb.weight"][1] if _has(shapes, "sem_emb.") else 0
    expected = CODE // 2 if semantic else CODE
    if width != expected:
        raise ModelError(f"its label_emb has {width} columns, expected {expected}")
    spec = UNetSpec(rows, semantic, wide)
    return load_strictly(lambda: PaperUNet(spec), state, where)


def is_small_unet(shapes: Shapes) -> bool:
    """Whether the names are those of mien's own UNet."""
    return _has(shapes, "noise1.", "middle.0.", "smaller.0.")


def build_small_unet(state: State, where: str) -> SmallUNet:
    """mien's own UNet with the weights of a state dict. Raises ModelError, KeyError."""
    shapes = shapes_of(state)
    found = [match.groups() for match in map(SMALL_STAGE.match, shapes) if match]
    levels = 1 + max((int(level) for level, _ in found), default=-1)
    blocks = 1 + max((int(block) for _, block in found), default=-1)
    steps = max(0, shapes["sigmas"][0] - 1)
    if not (0 < levels <= AT_MOST_LAYERS and 0 < blocks <= AT_MOST_LAYERS):
        raise KeyError("down.0.0.conv1.weight")
    if steps > MOST_STUDENT_STEPS:
        raise ModelError(f"it states {steps} steps, at most {MOST_STUDENT_STEPS} are known")
    spec = SmallSpec(
        labels=shapes["label.weight"][1],
        semantic=shapes["semantic.weight"][1] if "semantic.weight" in shapes else 0,
        widths=(
            *(shapes[f"down.{level}.0.conv1.weight"][0] for level in range(levels)),
            shapes["middle.0.conv1.weight"][0],
        ),
        blocks=blocks,
        embedding=shapes["noise1.weight"][0],
        steps=steps,
    )
    return load_strictly(lambda: SmallUNet(spec), state, where)


def is_vae(shapes: Shapes) -> bool:
    """Whether the names are those of the paper's VAE, alone or in a Lightning module."""
    return _has({key.removeprefix(LIGHTNING): () for key in shapes}, "encoder.0.0.", "fc_mu.")


def build_vae(state: State, where: str) -> VaeEncoder:
    """The encoder of the VAE with the weights of a state dict. Raises ModelError, KeyError."""
    kept = {
        key.removeprefix(LIGHTNING): tensor
        for key, tensor in state.items()
        if not DECODER.match(key.removeprefix(LIGHTNING))
    }
    shapes = shapes_of(kept)
    layers = {int(match.group(1)) for match in map(VAE_LAYER.match, shapes) if match}
    if layers != set(range(len(layers))) or len(layers) != len(VaeSpec().widths):
        raise ModelError(f"its encoder has {len(layers)} layers, expected {len(VaeSpec().widths)}")
    channels = shapes["encoder.0.0.weight"][1]
    if channels != 1:
        raise ModelError(f"it takes {channels} channels, expected luma")
    code, features = shapes["fc_mu.weight"]
    widths = tuple(shapes[f"encoder.{layer}.0.weight"][0] for layer in sorted(layers))
    if features != widths[-1] * BOTTLENECK:
        raise ModelError(
            f"its fc_mu takes {features} numbers, expected {widths[-1] * BOTTLENECK}: it was made "
            "for pictures of another size than 33 to 64 pixels"
        )
    spec = VaeSpec(code, widths, _has(shapes, "projection."))
    return load_strictly(lambda: VaeEncoder(spec), kept, where)


def is_cnn(shapes: Shapes) -> bool:
    """Whether the names are those of the paper's classifier."""
    return _has(shapes, "features.0.", "fc1.", "classifier.2.")


def build_cnn(state: State, where: str) -> CnnEncoder:
    """The classifier with the weights of a state dict. Raises ModelError, KeyError."""
    shapes = shapes_of(state)
    first = shapes["features.0.weight"]
    if first[1] not in (1, 3):
        raise ModelError(f"it takes {first[1]} channels, expected 1 or 3")
    spec = CnnSpec(
        code=shapes["fc1.weight"][0],
        classes=shapes["classifier.2.weight"][0],
        channels=first[1],
        widths=tuple(shapes[f"features.{layer}.weight"][0] for layer in CNN_CONVOLUTIONS),
        is_projected=_has(shapes, "projection."),
    )
    return load_strictly(lambda: CnnEncoder(spec), state, where)


def _has(shapes: Shapes, *beginnings: str) -> bool:
    """Whether names begin with each of these: what tells a form also where a tensor is missing."""
    return all(any(key.startswith(start) for key in shapes) for start in beginnings)


def condition_of(module: nn.Module, wanted: str | None) -> str:
    """The condition of a UNet: as its layout tells, or as asked for. Raises ModelError.

    A code of 256 numbers is the classifier's and one of 128 the VAE's, as in the public files.
    """
    spec = module.spec
    assert isinstance(spec, (UNetSpec, SmallSpec))
    if not spec.semantic:
        found = "label"
    else:
        found = {256: "cnn", 128: "vae", 512: "latent"}.get(spec.semantic, "")
    if wanted is None:
        if not found:
            raise ModelError(
                f"its semantic code has {spec.semantic} numbers, which no known encoder gives; "
                f"say which it is with --network diffusion_{{{','.join(CONDITIONS[1:])}}}"
            )
        return found
    if (wanted == "label") != (spec.semantic == 0):
        has = f"a semantic code of {spec.semantic} numbers" if spec.semantic else "no semantic code"
        raise ModelError(f"it has {has}, so that it is not diffusion_{wanted}")
    return wanted
