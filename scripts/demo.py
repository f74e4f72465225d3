"""Makes the README's pictures.

    python scripts/demo.py [PORTRAIT] [--models DIR]

docs/demo.webp: PORTRAIT (docs/mona-lisa.jpg) beside itself with one emotion after another.
docs/failures.jpg: the bundled sample's portrait, what is wrong with its surprise, and brows twice.
docs/emotions.jpg: the same portrait with each emotion.
docs/diffusion.jpg: the same by `--method diffusion`, a row for each condition in ten steps and for
each distilled network, of those that come with mien and those in DIR.
docs/faces.jpg: faces of 32 sentences, of 16 that were drawn the one that was ranked first.

All are what mien gives, unretouched. Needs Pillow, which the extra `dev` brings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien import EMOTIONS, Filter
from mien.apps.edit.inputs import SAMPLE
from mien.engines.catalog import BUNDLED_FOLDER, read_catalog
from mien.engines.diffusion import CONDITIONS, STUDENT_STEPS, unet_name
from mien.runtime.methods.diffusion import DEFAULT_CONDITION, DEFAULT_STEPS
from mien.runtime.text import draw_faces

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SIDE_PX = 360  # of each of the two pictures
RATE = 12.5  # frames a second
HOLD_S = 1.6  # for each emotion, the 0.45 s of its onset included
FACE_SHARE = 2.4  # how much of the picture is shown, in widths of the face
LEGEND_PX = 36
MOST_BYTES = 1_500_000
SENTENCES = (
    "a happy woman", "a happy man", "a sad woman", "a sad man",
    "a surprised woman", "a surprised man", "an angry woman", "an angry man",
    "an afraid woman", "an afraid man", "a disgusted woman", "a disgusted man",
    "a neutral woman", "a neutral man", "a contemptuous woman", "a contemptuous man",
    "a young woman, happy", "a young man, sad", "an old woman, happy", "an old man, angry",
    "a woman with glasses", "a man with glasses", "a woman, eyes wide", "a man, eyes narrow",
    "a woman, brows raised", "a man, brows lowered", "a woman, lips parted", "a man, lips closed",
    "a woman looking left", "a man looking right", "happy and surprised", "sad and angry",
)  # fmt: skip


def face_box(rgb: np.ndarray, share: float) -> tuple[int, int, int, int]:
    """A square around the largest face, within the picture: left, top, right, bottom."""
    with Filter(None) as look:
        look(rgb, 0.0)
        if not look.faces:
            raise SystemExit("no face was found in the portrait")
        points = max((face.landmarks for face in look.faces), key=lambda p: np.ptp(p[:, 0]))
    centre = points.mean(0)
    height, width = rgb.shape[:2]
    side = int(min(share * np.ptp(points[:, 0]), width, height))
    left = int(np.clip(centre[0] - side / 2, 0, width - side))
    top = int(np.clip(centre[1] - side / 2, 0, height - side))
    return left, top, left + side, top + side


def read_rgb(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def with_legend(pictures: list[Image.Image], words: list[str]) -> Image.Image:
    """Pictures of one size side by side, each with a word beneath it."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width * len(pictures), height + LEGEND_PX), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(LEGEND_PX * 0.55)
    for place, (picture, word) in enumerate(zip(pictures, words, strict=True)):
        sheet.paste(picture, (place * width, 0))
        middle = (place * width + width // 2, height + LEGEND_PX // 2)
        draw.text(middle, word, fill="black", font=font, anchor="mm")
    return sheet


def write_rows(rows: list[Image.Image], output: Path) -> None:
    """Write rows of one size below each other."""
    sheet = Image.new("RGB", (rows[0].width, len(rows) * rows[0].height), "white")
    for place, row in enumerate(rows):
        sheet.paste(row, (0, place * row.height))
    sheet.save(output, quality=85)
    print(f"{output}: {output.stat().st_size} bytes")


def demo_frames(rgb: np.ndarray) -> Iterator[Image.Image]:
    """The portrait beside its edit, frame by frame: each emotion, eased in as the filter does."""
    box = face_box(rgb, FACE_SHARE)
    size = (SIDE_PX, SIDE_PX)
    original = Image.fromarray(rgb).crop(box).resize(size, Image.Resampling.LANCZOS)
    shown = [emotion for emotion in EMOTIONS if emotion != "neutral"]
    with Filter(None) as change:
        time_s = 0.0
        for emotion in [*shown, "none"]:
            change.target = emotion
            for _ in range(round(HOLD_S * RATE)):
                edited = Image.fromarray(change(rgb, time_s)).crop(box)
                edited = edited.resize(size, Image.Resampling.LANCZOS)
                yield with_legend([original, edited], ["original", emotion])
                time_s += 1 / RATE


def write_demo(portrait: Path, output: Path) -> None:
    """Write the animated WebP, as good as fits into its limit of size."""
    frames = list(demo_frames(read_rgb(portrait)))
    for quality in (85, 75, 65, 50):
        frames[0].save(
            output,
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / RATE),
            loop=0,
            quality=quality,
            method=4,
        )
        if output.stat().st_size <= MOST_BYTES:
            break
    print(f"{output}: {len(frames)} frames, quality {quality}, {output.stat().st_size} bytes")


def write_failures(output: Path) -> None:
    """Write what goes wrong: skin that rims uncover, a mouth that is drawn, and brows twice."""
    rgb = read_rgb(SAMPLE.parent / "portrait.jpg")
    box = face_box(rgb, 1.7)
    edits = [rgb]
    for emotion, method in (("surprised", "warp"), ("sad", "parts")):
        with Filter(emotion, method=method) as change:
            edits.append(change(rgb, 0.0))
    size = (SIDE_PX, SIDE_PX)
    pictures = [
        Image.fromarray(edit).crop(box).resize(size, Image.Resampling.LANCZOS) for edit in edits
    ]
    words = ["original", "warp: smeared skin, drawn mouth", "parts: a second pair of brows"]
    with_legend(pictures, words).save(output, quality=88)
    print(f"{output}: {output.stat().st_size} bytes")


def write_emotions(output: Path) -> None:
    """Write the portrait with each emotion, in two rows."""
    rgb = read_rgb(SAMPLE.parent / "portrait.jpg")
    box = face_box(rgb, 1.7)
    words = ["original", *(emotion for emotion in EMOTIONS if emotion != "neutral")]
    pictures = []
    for word in words:
        with Filter(None if word == "original" else word) as change:
            edit = Image.fromarray(change(rgb, 0.0)).crop(box)
        pictures.append(edit.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS))
    half = len(words) // 2
    rows = [
        with_legend(pictures[a : a + half], words[a : a + half]) for a in range(0, 2 * half, half)
    ]
    write_rows(rows, output)


def write_diffusion(output: Path, models: Path | None) -> None:
    """Write the portrait as diffusion edits it: a row for each UNet there is."""
    rgb = read_rgb(SAMPLE.parent / "portrait.jpg")
    box = face_box(rgb, 1.7)
    words = ["original", "happy", "sad", "surprised", "fearful", "disgusted", "angry"]
    size = (SIDE_PX // 2, SIDE_PX // 2)
    rows = []
    known = networks_of(models)
    for condition in (DEFAULT_CONDITION, *(c for c in CONDITIONS if c != DEFAULT_CONDITION)):
        for steps in (None, *STUDENT_STEPS):
            if unet_name(condition, steps) not in known:
                continue
            made = {"condition": condition, "steps": steps or DEFAULT_STEPS, "models": models}
            pictures = []
            for word in words:
                shown = None if word == "original" else word
                with Filter(shown, method="diffusion", **made) as change:
                    edit = Image.fromarray(change(rgb, 0.0)).crop(box)
                pictures.append(edit.resize(size, Image.Resampling.LANCZOS))
            count = f"{steps or DEFAULT_STEPS} step{'s' if steps != 1 else ''}"
            rows.append(with_legend(pictures, [f"{condition}, {count}", *words[1:]]))
    write_rows(rows, output)


def networks_of(models: Path | None) -> set[str]:
    """The names of the networks that come with mien, and of those in a folder."""
    entries = list(read_catalog(BUNDLED_FOLDER))
    if models is not None:
        entries += read_catalog(models)
    return {entry.network for entry in entries}


def write_faces(output: Path) -> None:
    """Write a face of each sentence, four in a row."""
    pictures = [Image.fromarray(draw_faces(text, 16)[0][..., ::-1]) for text in SENTENCES]
    rows = [
        with_legend(pictures[first : first + 4], list(SENTENCES[first : first + 4]))
        for first in range(0, len(SENTENCES), 4)
    ]
    write_rows(rows, output)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("portrait", nargs="?", type=Path, default=DOCS / "mona-lisa.jpg")
    parser.add_argument("--models", type=Path, help="a folder of further diffusion networks")
    args = parser.parse_args()
    portrait: Path = args.portrait
    write_demo(portrait, DOCS / "demo.webp")
    write_failures(DOCS / "failures.jpg")
    write_emotions(DOCS / "emotions.jpg")
    write_diffusion(DOCS / "diffusion.jpg", args.models)
    write_faces(DOCS / "faces.jpg")


if __name__ == "__main__":
    main()
