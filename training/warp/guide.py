"""The classifiers that guide the warp editor: two small ResNets on aligned crops, and one of FER+.

They exist for training alone and are never shipped; the edits are measured by another classifier
(`training.faces.emotions`), with another architecture, crop and seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.networks import FER_CLASSES, FER_SIZE
from mien.export.models.emotions import EmotionClassifier
from mien.runtime.faces.alignment import FER_TEMPLATE, RIGID_TEMPLATE, fit_similarity
from mien.runtime.target import EMOTIONS
from mien.training.data.crops import balanced_weights, clear_crops, load_crops

CLASSES = 7  # FER-2013 has no contempt


class Block(nn.Module):
    """A pre-activation residual block."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        same = stride == 1 and c_in == c_out
        self.skip = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.norm1(x))
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(y))))


class Guide(nn.Module):
    """Logits (n, 7) of luma crops (n, 1, 64, 64) in [0, 1]."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 5, 2, 2), nn.SiLU(), nn.MaxPool2d(2))
        blocks, c_in = [], 24
        for stage in range(3):
            c_out = width * 2**stage
            for i in range(depth):
                blocks.append(Block(c_in, c_out, 2 if stage > 0 and i == 0 else 1))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(c_in)
        self.head = nn.Linear(c_in, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        y = F.silu(self.norm(self.blocks(self.stem((x - mean) / (std + 0.05)))))
        return self.head(F.dropout(y.mean((2, 3)), 0.3, self.training))


def make_guides() -> nn.ModuleList:
    """The two guides, untrained."""
    return nn.ModuleList([Guide(40, 2), Guide(56, 1)])


class FerGuide(nn.Module):
    """A classifier of `training.faces.emotions`, with a seed of its own, on the same crops.

    Logits (n, 7) in the order of EMOTIONS of luma crops (n, 1, 64, 64) in [0, 1].
    """

    place: torch.Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = EmotionClassifier()
        self.network.load_state_dict(torch.load(path, weights_only=True)["averaged"])
        self.order = [FER_CLASSES.index(name) for name in EMOTIONS[:CLASSES]]
        matrix = torch.from_numpy(fit_similarity(FER_TEMPLATE, RIGID_TEMPLATE))
        axis = (torch.arange(FER_SIZE) + 0.5) / FER_SIZE
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2)
        self.register_buffer("place", (grid @ matrix[:, :2].T + matrix[:, 2]) * 2 - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = self.place[None].expand(len(x), -1, -1, -1).to(x.dtype)
        seen = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        return self.network(seen)[:, self.order]


def load_guides(path: Path) -> nn.ModuleList:
    """Trained guides, frozen, in evaluation mode.

    path: of `guides.pt`. A checkpoint of `training.faces.emotions` beside it, `fer_guide.pt`, is
    one more guide.
    """
    guides = make_guides()
    guides.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["guides"])
    further = path.with_name("fer_guide.pt")
    if further.exists():
        guides.append(FerGuide(further))
    return guides.eval().requires_grad_(False)


def jitter(x: torch.Tensor, *, mirrored: bool = True) -> torch.Tensor:
    """Crops shifted, turned, scaled, mirrored, relit and blurred a little, each by its own draw."""
    n = len(x)
    angle = torch.randn(n) * 0.10
    scale = 1 + torch.randn(n) * 0.06
    mirror = torch.where(torch.rand(n) < (0.5 if mirrored else 1.0), 1.0, -1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = torch.cos(angle) * scale * mirror
    theta[:, 0, 1] = -torch.sin(angle) * scale
    theta[:, 1, 0] = torch.sin(angle) * scale * mirror
    theta[:, 1, 1] = torch.cos(angle) * scale
    theta[:, :, 2] = torch.randn(n, 2) * 0.06
    theta = theta.to(x.device)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    y = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    y = y * (1 + 0.15 * torch.randn(n, 1, 1, 1, device=x.device))
    y = y + 0.06 * torch.randn(n, 1, 1, 1, device=x.device)
    soft = F.avg_pool2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(n, 1, 1, 1, device=x.device) * 0.7
    return (y + share * (soft - y) + 0.02 * torch.randn_like(y)).clamp(0, 1)


def erase(x: torch.Tensor, side: int = 18) -> torch.Tensor:
    """Crops of which half have one square painted grey."""
    y = x.clone()
    for i in range(0, len(x), 2):
        top, left = (int(v) for v in torch.randint(0, x.shape[-1] - side, (2,)))
        y[i, :, top : top + side, left : left + side] = 0.5
    return y


def main(argv: list[str]) -> None:
    """Train both guides side by side within `--minutes`."""
    parser = argparse.ArgumentParser(prog="python -m mien.training guide")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    args = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    crops = clear_crops(load_crops(args.data, 64, args.out), args.data)
    known = crops.emotions < CLASSES
    train = np.flatnonzero(known & ~crops.validation)
    p = balanced_weights(crops.emotions[train], 0.6)
    guides = make_guides().to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(guides.parameters(), 2e-3, weight_decay=0.02)
    ema = torch.optim.swa_utils.AveragedModel(
        guides, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.997), use_buffers=True
    )
    began, step = time.monotonic(), 0
    while (part := (time.monotonic() - began) / (args.minutes * 60)) < 1:
        rate = 2e-3 * min(1, step / 100) * (0.5 + 0.5 * np.cos(np.pi * part))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = train[rng.choice(len(train), 64, p=p)]
        x = torch.from_numpy(crops.pixels[chosen]).to(device).float().div(255)[:, None]
        y = torch.from_numpy(crops.emotions[chosen]).to(device)
        loss = torch.zeros((), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            for guide in guides:
                seen = erase(jitter(x)).contiguous(memory_format=torch.channels_last)
                loss = loss + F.cross_entropy(guide(seen), y, label_smoothing=0.1)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        ema.update_parameters(guides)
        step += 1
        if step % 50 == 0:
            print(f"{step} {time.monotonic() - began:.0f} s loss {loss.item():.3f}", flush=True)
    trained = ema.module.eval()
    accuracy = _accuracy(trained, crops, np.flatnonzero(known & crops.validation), device)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"guides": trained.cpu().state_dict(), "steps": step}, args.out / "guides.pt")
    (args.out / "guides.json").write_text(json.dumps({"steps": step, **accuracy}, indent=1))
    print(accuracy)


@torch.inference_mode()
def _accuracy(guides: nn.Module, crops, chosen, device) -> dict[str, float]:
    result = {}
    for source, name in enumerate(("faces160", "fer2013")):
        part = chosen[crops.source[chosen] == source]
        for k, guide in enumerate(guides):
            hits = 0
            for i in range(0, len(part), 256):
                rows = part[i : i + 256]
                x = torch.from_numpy(crops.pixels[rows]).to(device).float().div(255)[:, None]
                hits += int((guide(x).argmax(1).cpu().numpy() == crops.emotions[rows]).sum())
            result[f"{name}_{k}"] = hits / max(1, len(part))
    return result
