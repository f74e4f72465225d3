"""Small made data for the latent recipes: faces, votes, a feature network and a face space."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mien.runtime.target import EMOTIONS
from mien.training.latent.generator import Critic, FaceSpace
from tests.runtime.faces.shapes import mean_face

PRESS, FER = 64, 24
# Channels of MobileNetV1 after each pointwise layer, as FaceRes has them.
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@dataclass(frozen=True, slots=True)
class Made:
    """Where the made things lie."""

    data: Path
    work: Path
    features: Path

    def words(self, minutes: float = 0.004) -> list[str]:
        """The options that every recipe takes."""
        places = ["--data", self.data, "--out", self.work, "--features", self.features]
        return [*map(str, places), "--device", "cpu", "--minutes", str(minutes)]


def make(folder: Path) -> Made:
    """Write everything under `folder`."""
    made = Made(folder / "data", folder / "work", folder / "faceres.json")
    made.data.mkdir()
    made.work.mkdir()
    _write_faces(made)
    write_features(made.features)
    _write_space(made.work / "latent.pt")
    return made


def _write_faces(made: Made) -> None:
    random = np.random.default_rng(4)
    count = PRESS + FER
    ramp = np.linspace(40, 200, 128)[None, :] + random.normal(0, 20, (count, 1, 1))
    pixels = np.clip(ramp + random.normal(0, 10, (count, 128, 128)), 0, 255).astype(np.uint8)
    marks = mean_face() + random.normal(0, 0.01, (count, 106, 2))
    np.savez(
        made.work / "crops128.npz",
        pixels=pixels,
        landmarks=marks.astype(np.float32),
        emotions=np.arange(count) % len(EMOTIONS),
        validation=np.arange(count) % 4 == (np.arange(count) // 8) % 4,
        source=np.repeat([0, 1], [PRESS, FER]),
    )
    with (made.data / "ferplus.csv").open("w") as file:
        writer = csv.DictWriter(file, ["original", *VOTES])
        writer.writeheader()
        for row in range(FER):
            given = {name: 8 if i == row % 8 else 0 for i, name in enumerate(VOTES)}
            writer.writerow({"original": 1, **given})
    np.save(made.data / "fer2013_landmarks_index.npy", np.arange(FER))


def write_features(path: Path) -> None:
    """Write a FaceRes of random weights in the form that the real one has."""
    random, weights = np.random.default_rng(0), []

    def put(name: str, shape: tuple[int, ...], scale: float) -> None:
        weights.append((name, random.normal(0, scale, shape).astype(np.float16)))

    put("conv1/convolution/merged_input", (3, 3, 3, 32), 0.002)
    put("conv1_bn/batchnorm_1/sub", (32,), 0.1)
    inputs = 32
    for i, outputs in enumerate(WIDTHS, 1):
        put(f"conv_dw_{i}/depthwise_kernel", (3, 3, inputs, 1), 0.3)
        put(f"conv_dw_{i}_bn/batchnorm_1/mul", (inputs,), 1.0)
        put(f"conv_dw_{i}_bn/batchnorm_1/sub", (inputs,), 0.1)
        put(f"conv_pw_{i}/convolution/merged_input", (1, 1, inputs, outputs), inputs**-0.5)
        put(f"conv_pw_{i}_bn/batchnorm_1/sub", (outputs,), 0.1)
        inputs = outputs
    for name, outputs in (("feats", 1024), ("gender_pred", 1), ("age_pred", 100)):
        put(f"{name}/kernel", (1024, outputs), 0.03)
        put(f"{name}/bias", (outputs,), 0.03)
    listed = [
        {
            "name": n,
            "shape": list(v.shape),
            "quantization": {"dtype": "float16"},
            "dtype": "float32",
        }
        for n, v in weights
    ]
    path.write_text(json.dumps({"weightsManifest": [{"weights": listed}]}))
    path.with_suffix(".bin").write_bytes(b"".join(v.tobytes() for _, v in weights))


def _write_space(path: Path) -> None:
    torch.manual_seed(0)
    space = FaceSpace(64, torch.from_numpy(mean_face().reshape(-1)))
    state = {"size": 64, "average": space.state_dict(), "critic": Critic().state_dict()}
    torch.save(state | {"step": 1, "spent_s": 60.0}, path)
