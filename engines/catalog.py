"""Which model file is which network, where it comes from and what it may be used for.

A folder of models holds `catalog.toml` with one `[[model]]` table for each file; its keys are the
fields of `ModelEntry`, except `folder`.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mien.engines.diffusion import CONDITIONS, STUDENT_STEPS, encoder_name, unet_name
from mien.engines.engine import Engine
from mien.engines.errors import MienError, ModelError
from mien.engines.face_space import ENCODER, FACE_SPACE, GENERATOR
from mien.engines.graph.file import read_model
from mien.engines.network import Network
from mien.engines.opening import open_engine
from mien.engines.ort.backend import check_runnable
from mien.engines.ort.providers import Provider
from mien.engines.system.file_lock import passing_lock
from mien.engines.system.partial_file import PartialFile
from mien.engines.text_faces import TEXT_FACE_NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CATALOG_NAME = "catalog.toml"
LOCK_NAME = ".catalog.lock"  # there while a catalog is changed
MAX_CATALOG_BYTES = 256 << 10  # the shipped one has 5 kB
MAX_DOTS = 200
MOST_WRITTEN, SHOWN = 10**18, 60
HEADER = "# The models of this folder; mien.engines.catalog says what each key means.\n"
BUNDLED_FOLDER = Path(__file__).parent / "models"
INT8 = "int8"  # the folder, in that one, of INT8 variants for a processor
TEXT_FIELDS = ("name", "network", "file", "sha256", "trained_on", "licence", "card")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # what TOML wants escaped
HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model file of a catalog.

    name: of the model, for people. network: the name of the declared `Network` it is.
    file, card: the ONNX file and its model card, beside the catalog.
    sha256: of the file, in lower-case hex.
    trained_on: the data. minutes: the training time. licence: of the weights (an SPDX name).
    quality: measured numbers, each under a name that says what and in which unit.
    folder: where the catalog lies.
    """

    name: str
    network: str
    file: str
    sha256: str
    trained_on: str
    minutes: float
    quality: Mapping[str, float]
    licence: str
    card: str
    folder: Path

    @property
    def path(self) -> Path:
        """Where the model file lies."""
        return self.folder / self.file

    def check_file(self) -> None:
        """Check that the file is there, whole, and no more than a network may be.

        Raises ModelError, and DeviceError where ONNX Runtime, which tells, does not start.
        """
        check_runnable(read_model(self.path, self.sha256), self.path)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models to choose from, one for each network.

    int8: INT8 variants of some of them for a processor, opened in their place on the provider cpu.
    """

    entries: tuple[ModelEntry, ...]
    int8: tuple[ModelEntry, ...] = ()

    @classmethod
    def bundled(cls) -> Catalog:
        """The catalog of the models that come with mien. Raises ModelError."""
        return cls(read_catalog(BUNDLED_FOLDER))

    @classmethod
    def load(cls, folder: str | Path) -> Catalog:
        """The bundled catalog, with the networks that the catalog in `folder` names taken from it.

        folder: or several, joined as in PATH (`joined_folders`); of a network that more than one
            of them has, the first one's model is taken. Where they have a generator or an encoder
            of a face space, no bundled network of another face space is mixed with it, none that
            draws faces from text with another that does, and beside a diffusion UNet or an encoder
            of a condition none of that condition. A student alone keeps the bundled encoder.
        Raises ModelError.
        """
        folders = [Path(folder)]
        if os.pathsep in str(folder) and not folders[0].exists():
            folders = [Path(part) for part in str(folder).split(os.pathsep) if part]
        found: dict[str, ModelEntry] = {}
        for entries in map(read_catalog, folders):
            for entry in entries:
                found.setdefault(entry.network, entry)
        other: set[str] = set()
        if not found.keys().isdisjoint((GENERATOR, ENCODER)):
            other |= {network.name for network in FACE_SPACE}
        if not found.keys().isdisjoint(TEXT_FACE_NAMES):
            other |= set(TEXT_FACE_NAMES)
        for condition in CONDITIONS:  # a UNet knows the codes of its own encoder alone
            unet, encoder = unet_name(condition), encoder_name(condition)
            if not found.keys().isdisjoint((unet, encoder)):
                other |= {unet, encoder, *(unet_name(condition, n) for n in STUDENT_STEPS)}
        for entry in cls.bundled().entries:
            if entry.network not in other:
                found.setdefault(entry.network, entry)
        return cls(tuple(found.values()))

    def entry(self, network: Network | str) -> ModelEntry:
        """The model of a network. Raises ModelError, naming the networks there are."""
        name = network if isinstance(network, str) else network.name
        for entry in self.entries:
            if entry.network == name:
                return entry
        known = ", ".join(entry.network for entry in self.entries) or "none"
        raise ModelError(
            f"the catalog has no model for the network {name!r} (it has: {known}); "
            "export a checkpoint with mien export --into DIR, then name it with --models DIR"
        )

    def in_int8(self) -> Catalog:
        """This catalog with the INT8 variants of those of its models that come with mien.

        Raises ModelError.
        """
        bundled = {entry.network for entry in self.entries if entry.folder == BUNDLED_FOLDER}
        variants = read_catalog(BUNDLED_FOLDER / INT8)
        return replace(self, int8=tuple(v for v in variants if v.network in bundled))

    def opened_entry(self, network: Network | str, provider: str) -> ModelEntry:
        """The model that `open` runs: on the provider cpu a variant in INT8. Raises ModelError."""
        entry = self.entry(network)
        if provider == Provider.CPU.short:
            return next((v for v in self.int8 if v.network == entry.network), entry)
        return entry

    def open(
        self, network: Network | str, *, provider: str = "cpu", threads: int | None = None
    ) -> Engine:
        """An engine for a network, its file checked against the catalog.

        network: its declaration, or its name where the graph states the rest. provider: as
        `mien.engines.opening.open_engine` takes it.

        Raises ModelError, DeviceError or EngineError.
        """
        entry = self.opened_entry(network, provider)
        return open_engine(
            entry.path, network, provider=provider, threads=threads, sha256=entry.sha256
        )


def joined_folders(folders: Sequence[str | Path]) -> Path | None:
    """Folders of models as one value that `Catalog.load` takes; None of none."""
    return Path(os.pathsep.join(map(str, folders))) if folders else None


def read_catalog(folder: Path) -> tuple[ModelEntry, ...]:
    """The entries of the catalog in a folder. Raises ModelError."""
    path = folder / CATALOG_NAME
    text = _read_text(path)
    try:
        tables = tomllib.loads(text).get("model", [])
    except (ValueError, ArithmeticError, RecursionError) as error:  # numbers of 5,000 digits, dates
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    if not isinstance(tables, list):
        raise ModelError(f"{path}: received one table 'model', expected [[model]] for each model")
    entries = tuple(
        _entry(f"{path}, model {index}", table, folder) for index, table in enumerate(tables, 1)
    )
    twice = [name for name, count in Counter(e.network for e in entries).items() if count > 1]
    if twice:
        raise ModelError(f"{path}: the network {twice[0]!r} has more than one model; keep one")
    return entries


def _read_text(path: Path) -> str:
    """The text of a file that can be a catalog. Raises ModelError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise ModelError(f"cannot read {path}: it is not a file; it lists the models")
        with path.open("rb") as file:
            content = file.read(MAX_CATALOG_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; it lists the models") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not valid TOML: {error}") from error
    except ValueError as error:  # a NUL in the name
        raise ModelError(f"{str(path)!r} is no name of a file; give a folder of models") from error
    if len(content) > MAX_CATALOG_BYTES:
        raise ModelError(f"{path} is too large; a catalog has up to {MAX_CATALOG_BYTES:,} bytes")
    # tomllib takes minutes for a key of half a million parts.
    if any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise ModelError(f"{path} has a line with more than {MAX_DOTS} dots; no catalog has")
    return text


def write_catalog(folder: Path, entries: tuple[ModelEntry, ...]) -> None:
    """Write `entries` as the catalog of a folder, in the order of their names. Raises ModelError.

    A reader finds the former catalog or the new one, whole.
    """
    tables = [_table(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    with PartialFile(folder / CATALOG_NAME, overwrite=True, error=ModelError) as part:
        part.write("\n".join([HEADER, *tables]).encode())
        part.publish(durable=True)


def record_model(entry: ModelEntry, parts: Sequence[PartialFile] = ()) -> None:
    """Put a model into its folder's catalog, in the place of that network's last one.

    parts: the model's finished files, which get their names before it is listed. A kill at any
    moment leaves a catalog that fits its files; processes that do this in one folder wait for each
    other. Raises MienError; the catalog is as it was then.
    """
    for part in parts:
        part.sync()
    folder, changing = entry.folder, {part.path.name for part in parts}
    with passing_lock(folder / LOCK_NAME):
        before = read_catalog(folder) if (folder / CATALOG_NAME).exists() else ()
        fitting = tuple(other for other in before if other.file not in changing)
        if len(fitting) < len(before):
            write_catalog(folder, fitting)  # no entry may name a file that is another by now
        try:
            for part in parts:
                part.publish()
            kept = tuple(other for other in fitting if other.network != entry.network)
            write_catalog(folder, (*kept, entry))
        except MienError:
            if len(fitting) < len(before):
                write_catalog(folder, tuple(other for other in before if _fits(other)))
            raise


def _fits(entry: ModelEntry) -> bool:
    with suppress(ModelError):
        entry.check_file()
        return True
    return False


def _entry(where: str, table: object, folder: Path) -> ModelEntry:
    if not isinstance(table, dict):
        raise ModelError(f"{where}: received {type(table).__name__}, expected a table")
    expected = {*TEXT_FIELDS, "minutes", "quality"}
    if table.keys() != expected:
        missing = ", ".join(sorted(expected - table.keys())) or "nothing"
        extra = ", ".join(sorted(table.keys() - expected)) or "nothing"
        raise ModelError(f"{where}: missing keys: {missing}; unknown keys: {extra}")
    texts = {field: _text(where, field, table[field]) for field in TEXT_FIELDS}
    for field in ("file", "card"):
        if Path(texts[field]).name != texts[field]:
            raise ModelError(f"{where}: {field} {texts[field]!r} must be a file beside the catalog")
    if len(texts["sha256"]) != 64 or not HEX_DIGITS.issuperset(texts["sha256"]):
        raise ModelError(f"{where}: sha256 must be 64 lower-case hex digits")
    quality = table["quality"]
    if not isinstance(quality, dict):
        raise ModelError(f"{where}: quality must be a table of numbers")
    return ModelEntry(
        **texts,
        minutes=_number(where, "minutes", table["minutes"]),
        quality={name: _number(where, name, value) for name, value in quality.items()},
        folder=folder,
    )


def _text(where: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ModelError(f"{where}: {field} must be a text, not {_shown(value)}")
    return value


def _number(where: str, field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ModelError(f"{where}: {field} must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ModelError(f"{where}: {field} must be a finite number")
    return number


def _shown(value: object) -> str:
    """A wrong value as it can be shown: a table may be large, and a number too long to write."""
    is_short = isinstance(value, str) or (isinstance(value, int) and abs(value) < MOST_WRITTEN)
    return repr(value)[:SHOWN] if is_short else f"a {type(value).__name__}"


def _table(entry: ModelEntry) -> str:
    lines = ["[[model]]"]
    lines += [f"{field} = {_quoted(getattr(entry, field))}" for field in TEXT_FIELDS]
    lines += [f"minutes = {entry.minutes!r}", "[model.quality]"]
    lines += [f"{_quoted(name)} = {float(value)!r}" for name, value in entry.quality.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'
