"""Puts a recipe's results among the shipped models: each file, its card and its catalog entry.

`python -m mien.training ship --out DIR [--network NAME [NAME ...]] --into engines/models`; without
names, all that the recipe left.
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
ENDINGS = ("onnx", "json", "md")
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
    known = [network.name for network in SHIPPED]
    parser.add_argument("--network", nargs="+", choices=known, help="by default all there are")
    parser.add_argument("--into", type=Path, required=True, help="a folder of models")
    args = parser.parse_args(argv)
    names = args.network or [name for name in known if _is_whole(args.out, name)]
    if not names:
        parser.error(f"{args.out} holds no network with its numbers and its card")
    for name in names:
        ship(name, args.out, args.into)


def _is_whole(out: Path, name: str) -> bool:
    return all((out / f"{name}.{end}").is_file() for end in ENDINGS)


def ship(name: str, out: Path, into: Path) -> None:
    """Copy one network and its card, and record it in the catalog."""
    metrics = json.loads((out / f"{name}.json").read_text())
    shutil.copy(out / f"{name}.onnx", into)
    shutil.copy(out / f"{name}.md", into)
    path = into / f"{name}.onnx"
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
        folder=into,
    )
    record_model(entry)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {entry.sha256}")
