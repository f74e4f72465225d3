"""Expressions saved by name."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mien.apps.panel.parsing import parse_intensity, parse_name, parse_weights
from mien.apps.panel.protocol import Preset, ProtocolError
from mien.engines.errors import UsageError, VideoError
from mien.runtime.whole_file import write_whole

MAX_PRESETS: Final = 100
_VERSION = 1


class Presets:
    """Presets in a JSON file; every method may be called from any thread.

    A file that cannot be read is left alone until the next save, which replaces it; what was
    wrong stands in `message`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.message: str | None = None
        self._presets = self._read()

    def all(self) -> tuple[Preset, ...]:
        """The presets in the order in which they were first saved."""
        with self._lock:
            return tuple(self._presets.values())

    def get(self, name: str) -> Preset:
        """The preset of that name. Raises UsageError."""
        with self._lock:
            if name not in self._presets:
                raise UsageError(f"there is no preset {name!r}")
            return self._presets[name]

    def save(self, preset: Preset) -> None:
        """Nothing; keeps the preset, in the place of one of the same name. Raises UsageError."""
        with self._lock:
            if preset.name not in self._presets and len(self._presets) >= MAX_PRESETS:
                raise UsageError(f"there are {MAX_PRESETS} presets already; delete one")
            self._replace({**self._presets, preset.name: preset})

    def delete(self, name: str) -> None:
        """Nothing; forgets the preset. Raises UsageError."""
        with self._lock:
            if name not in self._presets:
                raise UsageError(f"there is no preset {name!r}")
            self._replace({key: kept for key, kept in self._presets.items() if key != name})

    def _replace(self, presets: dict[str, Preset]) -> None:
        """Writes first, so that what is shown is what was kept."""
        entries = [
            {"name": kept.name, "target": dict(kept.target), "intensity": kept.intensity}
            for kept in presets.values()
        ]
        text = json.dumps({"version": _VERSION, "presets": entries}, indent=2, ensure_ascii=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, text.encode(), overwrite=True)
        except (OSError, VideoError) as error:
            raise UsageError(f"presets cannot be kept in {self._path}: {error}") from error
        self._presets = presets
        self.message = None

    def _read(self) -> dict[str, Preset]:
        try:
            content = json.loads(self._path.read_bytes())
            return {preset.name: preset for preset in map(_preset, content["presets"])}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, RecursionError, ProtocolError) as error:
            self.message = f"the presets in {self._path} cannot be read: {error}"
            return {}


def _preset(entry: Mapping[str, Any]) -> Preset:
    return Preset(
        parse_name(entry["name"]),
        parse_weights(entry["target"]),
        parse_intensity(entry["intensity"]),
    )
