"""Faces from sentences: the generator of FaceCLIP, and what reads and ranks for it."""

from __future__ import annotations

from mien.runtime.text.faces import DrawnFace, TextFaces, draw_faces

__all__ = ["DrawnFace", "TextFaces", "draw_faces"]
