"""`python -m mien.training RECIPE --minutes N --data DIR --media DIR --out DIR`."""

from __future__ import annotations

import importlib
import sys

# Each recipe, and the module whose `main` runs it.
RECIPES = {
    "landmarks": "faces.landmarks",
    "detector": "faces.detector",
    "emotions": "faces.emotions",
    "guide": "warp.guide",
    "warp-lessons": "warp.lessons",
    "warp": "warp.warp",
    "warp-units": "warp.units",
    "occlusion": "warp.occlusion",
    "stargan": "gan.stargan",
    "cyclegan": "gan.cyclegan",
    "parser": "gan.parser",
    "smile": "gan.smile",
    "latent": "latent.generator",
    "latent-refine": "latent.refine",
    "latent-all": "latent.everything",
    "mapper": "latent.prior",
    "classifiers": "latent.classifiers",
    "text-image": "latent.text_image",
    "emm": "latent.emm",
    "directions": "latent.directions",
    "latent-export": "latent.export",
    "diffusion": "diffusion.recipe",
    "text": "text.recipe",
    "text-further": "text.further",
    "ship": "ship",
}


def run_recipe(name: str, argv: list[str]) -> None:
    """Run the recipe of that name with its options."""
    importlib.import_module(f"mien.training.{RECIPES[name]}").main(argv)


def main(argv: list[str]) -> int:
    """The exit status of one recipe, which is run."""
    if not argv or argv[0] not in RECIPES:
        print(f"usage: python -m mien.training {{{','.join(RECIPES)}}} --minutes N ...")
        return 2
    run_recipe(argv[0], argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
