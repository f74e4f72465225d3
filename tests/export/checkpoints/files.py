"""Checkpoints for tests, built as their public code would save them, and what is wrong with bad."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from mien.engines.networks import parser_network
from mien.export.checkpoints.formats import recognise
from mien.export.checkpoints.reading import read_checkpoint
from mien.export.models.diffusion import PaperUNet, UNetSpec
from mien.export.models.diffusion_encoders import CnnEncoder, CnnSpec, VaeEncoder, VaeSpec
from mien.export.models.gans import CycleGanGenerator, CycleGanSpec, StarGanGenerator, StarGanSpec
from mien.export.models.parsers import BiSeNet, BiSeNetSpec, DeepLab, DeepLabSpec
from mien.export.models.small_unet import SmallSpec, SmallUNet
from mien.export.models.trunks import Bottleneck, ResNetSpec
from mien.export.parity import parser_examples

State = dict[str, torch.Tensor]

SMALL_STARGAN = StarGanSpec(labels=3, conv_dim=8, blocks=2)
SMALL_CYCLEGAN = CycleGanSpec(ngf=8, blocks=2)
SMALL_PAPER_UNET = UNetSpec(10, 128, 4)
SMALL_UNET = SmallSpec(semantic=5, widths=(16, 16, 32), blocks=1, embedding=24)
SMALL_VAE = VaeSpec(128, (4, 4, 8, 8, 8))
SMALL_CNN = CnnSpec(widths=(4, 4, 4, 4, 8))
SMALL_BISENET = BiSeNetSpec(classes=19, trunk=(8, 16, 24, 32), reach=8)


def small_deeplab(classes: int = 19) -> DeepLabSpec:
    """A DeepLabV3 on a ResNet-26 of an eighth of the width."""
    return DeepLabSpec(ResNetSpec.of((2, 2, 2, 2), 0.125), classes, head=16)


def module_of(spec: object, seed: int = 0) -> nn.Module:
    """An untrained network whose statistics and normalisation are those of no fresh one."""
    torch.manual_seed(seed)
    kinds = {
        StarGanSpec: StarGanGenerator,
        CycleGanSpec: CycleGanGenerator,
        DeepLabSpec: DeepLab,
        BiSeNetSpec: BiSeNet,
        UNetSpec: PaperUNet,
        SmallSpec: SmallUNet,
        VaeSpec: VaeEncoder,
        CnnSpec: CnnEncoder,
    }
    module = kinds[type(spec)](spec)  # type: ignore[index, arg-type]
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.InstanceNorm2d)) and part.weight is not None:
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.normal_(part.bias, 0, 0.2)
    last = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]
    if not last.weight.is_meta:  # outputs that use their range, and classes that differ
        nn.init.normal_(last.weight, 0, last.weight[0].numel() ** -0.5)
        if isinstance(module, (DeepLab, BiSeNet)):
            _normalise(module)
    return module.eval()


@torch.no_grad()
def _normalise(module: nn.Module) -> None:
    """Set statistics as training would leave them; others give one class only in a deep network.

    The picture is smooth, as photographs are; on the portrait no class is likelier than another.
    """
    for part in module.modules():
        if isinstance(part, Bottleneck):
            # As in trained ones, a block adds less than passes by it. Otherwise a hundred layers
            # amplify rounding: torch itself was 3.5e-4 off what it says in double precision.
            part.bn3.weight *= 0.3
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the plain mean, in place of a running one
    smooth = nn.functional.interpolate(torch.randn(2, 3, 8, 8), size=(128, 128), mode="bicubic")
    module.train()(smooth)
    last = [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]
    if last.bias is not None:
        portrait = parser_examples(parser_network(classes=2, size=128), "rgb")[0].feeds["image"]
        logits = module.eval()(torch.from_numpy(portrait))
        spread = logits.std((0, 2, 3))
        last.weight /= spread[:, None, None, None]
        last.bias.copy_((last.bias - logits.mean((0, 2, 3))) / spread)


def state_of(spec: object, seed: int = 0) -> State:
    """The state dict of such a network."""
    return dict(module_of(spec, seed).state_dict())


def with_running_statistics(state: State, norms: list[str]) -> State:
    """As files of the public code hold them: beside each normalisation, never used."""
    result = dict(state)
    for name in norms:
        width = state[f"{name}.weight"].shape[0] if f"{name}.weight" in state else 8
        result |= {
            f"{name}.running_mean": torch.randn(width),
            f"{name}.running_var": torch.rand(width) + 0.1,
            f"{name}.num_batches_tracked": torch.tensor(200000),
        }
    return result


def norms_of(module: nn.Module) -> list[str]:
    """The names of a network's instance normalisations."""
    return [name for name, part in module.named_modules() if isinstance(part, nn.InstanceNorm2d)]


def saved(held: object, path: Path, *, old: bool = False) -> Path:
    """Where `held` now lies; old: in the format before torch 1.6."""
    torch.save(held, path, _use_new_zipfile_serialization=not old)
    return path


class Malicious:
    """Leaves a file behind when an unwary reader loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.trace),)


def read_back(spec: object, folder: Path) -> nn.Module:
    """The network of such sizes, as it is read from its own checkpoint."""
    path = saved(state_of(spec), folder / "checkpoint.pth")
    module = recognise(read_checkpoint(path)).module
    path.unlink()
    return module
