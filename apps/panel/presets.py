"""Expressions saved by name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mien.apps.panel.parsing import parse_intensity, parse_json, parse_name, parse_weights
from mien.apps.panel.protocol import Preset, ProtocolError
from mien.engines.errors import UsageError, VideoError
from mien.runtime.whole_file import write_whole

MAX_PRESETS: Final = 100
MAX_BYTES: Final = 256 * 1024  # of the file; a hundred presets take some 40 kB
WRITE_EVERY_S: Final = 0.2  # what is saved meanwhile is written at once
_VERSION = 1
# What there is before somebody saves or deletes one. The last is within reach of every method that
# has a neutral face.
STARTERS: Final = (
    Preset("Warm smile", parse_weights({"happy": 0.6}), 1.0),
    Preset("Pleasant surprise", parse_weights({"happy": 0.4, "surprised": 0.5}), 1.0),
    Preset("Poker face", parse_weights({"neutral": 1.0}), 1.0),
)


class Presets:
    """Presets in a JSON file; used in the server's thread, the file in another.

    Where there is no file yet, there are the STARTERS. A file that cannot be read is left unchanged
    until the next save, which replaces it; what was wrong stands in `message`. changed: called when
    others than before are in the file.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path, self._changed = path, changed
        self.message: str | None = None
        self._kept = self._wanted = self._read()  # in the file, and what it is to become
        self._writing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._written_s = 0.0

    def all(self) -> tuple[Preset, ...]:
        """The presets that are saved, in the order in which they were first saved."""
        return tuple(self._kept.values())

    def get(self, name: str) -> Preset:
        """The preset of that name. Raises UsageError."""
        if name not in self._wanted:
            raise UsageError(f"there is no preset {name!r}")
        return self._wanted[name]

    def save(self, preset: Preset) -> asyncio.Task[None]:
        """The task that keeps the preset, in the place of one of the same name.

        Raises UsageError; so does what is returned, where the file cannot be written.
        """
        if preset.name not in self._wanted and len(self._wanted) >= MAX_PRESETS:
            raise UsageError(f"there are {MAX_PRESETS} presets already; delete one")
        return self._keep({**self._wanted, preset.name: preset})

    def delete(self, name: str) -> asyncio.Task[None]:
        """The task that forgets the preset; as `save`."""
        if name not in self._wanted:
            raise UsageError(f"there is no preset {name!r}")
        return self._keep({key: kept for key, kept in self._wanted.items() if key != name})

    async def close(self) -> None:
        """Wait until everything is written."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        async with self._one_at_a_time:
            pass

    def _keep(self, presets: dict[str, Preset]) -> asyncio.Task[None]:
        """The task of writing, which comes first, so that what is shown is what was kept."""
        self._wanted = presets
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_soon())
        return self._writing

    async def _write_soon(self) -> None:
        async with self._one_at_a_time:
            await asyncio.sleep(self._written_s + WRITE_EVERY_S - time.monotonic())
            presets, self._writing = self._wanted, None  # what comes now is for the next time
            try:
                await asyncio.to_thread(self._write, presets)
            except UsageError:
                if self._wanted is presets:
                    self._wanted = self._kept
                raise
            finally:
                self._written_s = time.monotonic()
            self._kept = presets
            self.message = None
            self._changed()

    def _write(self, presets: dict[str, Preset]) -> None:
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

    def _read(self) -> dict[str, Preset]:
        try:
            return _presets(self._path)
        except FileNotFoundError:
            return {preset.name: preset for preset in STARTERS}
        except (OSError, ValueError, TypeError, KeyError, ProtocolError) as error:
            self.message = f"the presets in {self._path} cannot be read: {error}"
            return {}


def _presets(path: Path) -> dict[str, Preset]:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"they are larger than {MAX_BYTES} bytes")
    presets = [_preset(entry) for entry in parse_json(data.decode("utf-8"))["presets"]]
    if len(presets) > MAX_PRESETS:
        raise ValueError(f"they are {len(presets)}, more than {MAX_PRESETS}")
    return {preset.name: preset for preset in presets}


def _preset(entry: Mapping[str, Any]) -> Preset:
    return Preset(
        parse_name(entry["name"]),
        parse_weights(entry["target"]),
        parse_intensity(entry["intensity"]),
    )
