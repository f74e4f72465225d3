"""`python -m mien.training RECIPE --minutes N --data DIR --media DIR --out DIR`."""

from __future__ import annotations

import importlib
import sys

RECIPES = (
    "landmarks",
    "detector",
    "guide",
    "warp",
    "occlusion",
    "emotions",
    "stargan",
    "cyclegan",
    "parser",
    "smile",
    "latent",
    "diffusion",
    "ship",
)


def main(argv: list[str]) -> int:
    """Run one recipe; the exit status."""
    if not argv or argv[0] not in RECIPES:
        print(f"usage: python -m mien.training {{{','.join(RECIPES)}}} --minutes N ...")
        return 2
    recipe = importlib.import_module(f"mien.training.{argv[0]}")
    recipe.main(argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
