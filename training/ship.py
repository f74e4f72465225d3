"""Puts a recipe's result among the shipped models: the file, its card and its catalog entry.

`python -m mien.training ship --out DIR --network NAME --into engines/models`
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mien.engines import ModelEntry, record_model
from mien.engines.diffusion import NETWORK_NAMES as DIFFUSION_NAMES
from mien.engines.networks import SHIPPED
from mien.engines.text_faces import TEXT_FACE_NAMES
from mien.export.onnx_file import sha256_of

LICENCE = "Apache-2.0"
DATA = {
    "detector": "faces160, training clips and scenes, composed scenes; labels by FaceMesh",
    "landmarks": "faces160, FER-2013, training clips and scenes; labels by FaceMesh",
    "warp": "FER-2013 (train split) and faces160 (training people); labels by FaceMesh",
    "occlusion": "faces160 (training people) and training clips, with glasses, hands and other "
    "things drawn onto them",
    "face_parser": "faces160 (training people), FER-2013 (train split), training clips; masks made "
    "of FaceMesh points",
    "judge": "FER-2013 (train split)",
    **dict.fromkeys(
        TEXT_FACE_NAMES,
        "faces160 (training people), FER-2013 (train split), portraits of members of the US "
        "Congress, training clips",
    ),
    **dict.fromkeys(DIFFUSION_NAMES, "FER-2013 (train split), labelled by the votes of FER+"),
}
DATA_OF_GENERATORS = "faces160 (training people) and FER-2013 (train split); grey pictures"


def main(argv: list[str]) -> None:
    """Copy, and record in the catalog."""
    parser = argparse.ArgumentParser(prog="python -m mien.training ship")
    parser.add_argument("--out", type=Path, required=True, help="the recipe's output folder")
    parser.add_argument("--network", choices=[network.name for network in SHIPPED], required=True)
    parser.add_argument("--into", type=Path, required=True, help="a folder of models")
    args = parser.parse_args(argv)
    name = args.network
    metrics = json.loads((args.out / f"{name}.json").read_text())
    shutil.copy(args.out / f"{name}.onnx", args.into)
    shutil.copy(args.out / f"{name}.md", args.into)
    path = args.into / f"{name}.onnx"
    entry = ModelEntry(
        name=f"mien-{name}",
        network=name,
        file=path.name,
        sha256=sha256_of(path),
        trained_on=DATA.get(name, DATA_OF_GENERATORS),
        minutes=float(metrics["minutes"]),
        quality=metrics["quality"],
        licence=LICENCE,
        card=f"{name}.md",
        folder=args.into,
    )
    record_model(entry)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {entry.sha256}")
