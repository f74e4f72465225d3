"""From luma at 128 pixels to colour at 256: a chroma head and super-resolution in one network.

What faces there are to learn expressions from is grey and small. Colour and detail are learned
apart, on portraits and clips in colour (`portraits.tar` of --data, `*.mp4` of --media/train), and
put on the latent generator's pictures.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mien.engines.catalog import Catalog
from mien.engines.networks import DETECTOR, LANDMARKS
from mien.runtime.faces.alignment import crop_matrix, sample_crop
from mien.runtime.faces.detection import FaceDetector
from mien.runtime.faces.landmarks import LandmarkDetector
from mien.training.data.clips import read_clip
from mien.training.data.crops import write_arrays
from mien.training.latent.face_features import FaceFeatures

SEEN, SIZE = 128, 256
CLIP_STEP = 12  # frames from one that is taken to the next
LEAST_SIDE = 110.0  # pixels of a face in its picture, for its detail to be worth learning
SURE = 0.5
# Y, Cb, Cr of BT.601 in [-1, 1] each.
WEIGHTS = (0.299, 0.587, 0.114)
LAYERS = (3, 5, 9)
COMPARED = 160  # pixels a side


def luma_of(rgb: torch.Tensor) -> torch.Tensor:
    """The luma of pictures (n, 3, s, s): (n, 1, s, s)."""
    weights = torch.tensor(WEIGHTS, dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return (rgb * weights).sum(1, keepdim=True)


def chroma_of(rgb: torch.Tensor) -> torch.Tensor:
    """Cb and Cr of pictures: (n, 2, s, s)."""
    y = luma_of(rgb)
    return torch.cat([(rgb[:, 2:] - y) / 1.772, (rgb[:, :1] - y) / 1.402], 1)


def rgb_of(y: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Pictures from luma (n, 1, s, s) and chroma (n, 2, s, s)."""
    red = y + 1.402 * chroma[:, 1:]
    blue = y + 1.772 * chroma[:, :1]
    green = (y - WEIGHTS[0] * red - WEIGHTS[2] * blue) / WEIGHTS[1]
    return torch.cat([red, green, blue], 1)


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A convolution without normalisation: brightness and contrast are to stay."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.2))


class Finisher(nn.Module):
    """Luma (n, 1, s, s) to R, G, B (n, 3, 256, 256), both in [-1, 1]."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.first = layer(1, width)
        self.down1, self.down2 = layer(width, 2 * width, 2), layer(2 * width, 3 * width, 2)
        self.down3 = layer(3 * width, 4 * width, 2)
        self.deep = nn.Sequential(layer(4 * width, 4 * width), layer(4 * width, 4 * width))
        self.up3, self.up2 = layer(7 * width, 3 * width), layer(5 * width, 2 * width)
        self.up1 = layer(3 * width, width)
        self.detail = nn.Sequential(layer(width, width), nn.Conv2d(width, 4, 3, padding=1))
        self.chroma = nn.Conv2d(width, 2, 3, padding=1)
        for head in (self.detail[1], self.chroma):
            assert isinstance(head, nn.Conv2d)
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)

    def forward(self, luma: torch.Tensor) -> torch.Tensor:
        seen = F.interpolate(luma, size=SEEN, mode="bilinear") if luma.shape[-1] != SEEN else luma
        a = self.first(seen)
        b = self.down1(a)
        c = self.down2(b)
        d = self.deep(self.down3(c))
        c = self.up3(torch.cat([F.interpolate(d, scale_factor=2.0), c], 1))
        b = self.up2(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
        a = self.up1(torch.cat([F.interpolate(b, scale_factor=2.0), a], 1))
        smooth = F.interpolate(seen, scale_factor=2.0, mode="bicubic")
        y = smooth + F.pixel_shuffle(self.detail(a), 2)
        chroma = F.interpolate(self.chroma(a).tanh(), scale_factor=2.0, mode="bilinear")
        return rgb_of(y.float(), chroma.float())


def colour_faces(data: Path, media: Path | None, cache: Path) -> np.ndarray:
    """Aligned faces in colour, uint8 (n, 256, 256, 3) RGB, from `cache` where it has them.

    Of portraits those of people that may be trained on.
    """
    file = cache / f"colour{SIZE}.npz"
    if not file.exists():
        with (
            Catalog.bundled().open(DETECTOR, threads=1) as detector,
            Catalog.bundled().open(LANDMARKS, threads=1) as landmarks,
        ):
            finders = FaceDetector(detector), LandmarkDetector(landmarks)
            found = [_cropped(picture, *finders) for picture in _pictures(data, media)]
        kept = [face for face in found if face is not None]
        if not kept:
            raise SystemExit(f"no face in colour: {data} has no portraits.tar, or none is found")
        write_arrays(file, faces=np.stack(kept))
    with np.load(file) as stored:
        faces: np.ndarray = stored["faces"]
    return faces


def _cropped(
    picture: np.ndarray, detector: FaceDetector, landmarks: LandmarkDetector
) -> np.ndarray | None:
    """The aligned face of a picture, uint8 RGB, where it shows one that is large enough."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    faces = detector(grey)
    if not faces:
        return None
    marks = landmarks.from_points(grey, faces[0].points)
    if marks.score < SURE or np.ptp(marks.points, axis=0).max() < LEAST_SIDE:
        return None
    return sample_crop(picture, crop_matrix(marks.points, SIZE), SIZE)


def _pictures(data: Path, media: Path | None) -> Iterator[np.ndarray]:
    """Portraits of people that may be trained on, then frames of clips: uint8 RGB."""
    if (data / "portraits.tar").exists():
        with (data / "portraits.csv").open() as rows:
            people = {row["file"]: int(row["person"], 16) for row in csv.DictReader(rows)}
        with tarfile.open(data / "portraits.tar") as archive:
            for member in archive:
                name = Path(member.name).name
                opened = archive.extractfile(member)
                if opened is None or people.get(name, 0) % 10 == 0:
                    continue
                bgr = cv2.imdecode(np.frombuffer(opened.read(), np.uint8), cv2.IMREAD_COLOR)
                if bgr is not None:
                    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    for clip in sorted((media / "train").glob("*.mp4")) if media else []:
        yield from read_clip(clip, CLIP_STEP)


class ColourBatches:
    """Mirrored and jittered faces in colour: float32 (n, 3, 256, 256) in [-1, 1]."""

    def __init__(self, faces: np.ndarray, batch: int, seed: int) -> None:
        self.faces, self.batch = faces, batch
        self.random = np.random.default_rng(seed)

    def __call__(self) -> torch.Tensor:
        rows = self.random.integers(0, len(self.faces), self.batch)
        picked = np.stack([self._jittered(self.faces[row]) for row in rows])
        return torch.from_numpy(picked.transpose(0, 3, 1, 2)) / 127.5 - 1

    def _jittered(self, face: np.ndarray) -> np.ndarray:
        scale = float(self.random.uniform(0.96, 1.06))
        shift = self.random.uniform(-6, 6, 2) + SIZE / 2 * (1 - scale)
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
        moved = cv2.warpAffine(face, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        gain = float(self.random.uniform(0.85, 1.12))
        lit = np.clip(moved.astype(np.float32) * gain, 0, 255)
        return lit[:, ::-1].copy() if self.random.random() < 0.5 else lit


class FinishLoss:
    """Colour as it is, detail as it is, and what a face network sees in the luma."""

    def __init__(self, features: FaceFeatures, device: torch.device) -> None:
        self.features, self.device = features, device

    def __call__(self, network: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        real = batch.to(self.device)
        grey = luma_of(real)
        seen = F.avg_pool2d(grey, 2)
        blurred = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), "replicate"), 3, 1)
        blur = torch.rand(len(seen), 1, 1, 1, device=self.device) * 0.6
        seen = seen + (blurred - seen) * blur  # generated pictures are as soft as that
        seen = seen + 0.02 * torch.randn_like(seen) * torch.rand_like(blur)
        made = network(seen)
        y = luma_of(made)
        across, down = (_steps(y, axis) - _steps(grey, axis) for axis in (2, 3))
        with torch.no_grad():
            wanted = self.features(_compared(grey), LAYERS)
        found = self.features(_compared(y), LAYERS)
        unlike = [
            (F.normalize(found[k].float()) - F.normalize(wanted[k].float())).square().sum(1).mean()
            for k in LAYERS
        ]
        return {
            "chroma": 6 * (chroma_of(made) - chroma_of(real)).abs().mean(),
            "luma": 2 * (y - grey).abs().mean(),
            "edges": 4 * (across.abs().mean() + down.abs().mean()),
            "features": 0.3 * torch.stack(unlike).sum(),
        }


def _compared(y: torch.Tensor) -> torch.Tensor:
    """Luma at the size at which faces are compared."""
    return F.interpolate(y, size=COMPARED, mode="bilinear", antialias=True)


def _steps(x: torch.Tensor, axis: int) -> torch.Tensor:
    """What differs from one pixel to the next."""
    return x.diff(dim=axis)
