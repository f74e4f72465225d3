"""The marks of what the commands write: a watermark in the edited faces, and a signed statement.

Both are there unless they are left out by name (`--no-marks`). The watermark needs no package; the
statement, Content Credentials, needs the extra `provenance` and a certificate of this user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.apps.marks.credential import Credential, check_package, load, local_file
from mien.apps.marks.provenance import Applied, sign_into, unsigned_note
from mien.engines.errors import UsageError, VideoError
from mien.engines.system.partial_file import PartialFile
from mien.runtime.live import values as live
from mien.runtime.target import goal_text
from mien.runtime.watermark.payload import NUMBER_BITS, Payload
from mien.runtime.watermark.watermark import Watermark

SAMPLES: Final = 64  # of a source, that decide the number of its watermark
SAMPLE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Marking:
    """How files are marked.

    is_on: whether they are at all. credential: what signs, None where nothing does. why_unsigned:
    one line where this user has a certificate, and it cannot be used here.
    """

    is_on: bool = True
    credential: Credential | None = None
    why_unsigned: str | None = None

    @classmethod
    def ready(cls, *, is_on: bool) -> Marking:
        """What is there on this machine. Raises UsageError for a certificate that cannot sign."""
        if not is_on:
            return cls(is_on=False)
        try:
            has_certificate = local_file().is_file()
        except UsageError:  # a user without a home folder
            has_certificate = False
        if not has_certificate:
            return cls()
        try:
            check_package()
        except UsageError as error:
            return cls(why_unsigned=f"not signed: {error}")
        try:
            return cls(credential=load())
        except UsageError as error:
            raise UsageError(f"{error}; or leave the marks out with --no-marks") from error

    def of_file(self, edit: Edit | None, *, overwrite: bool) -> FileMarks:
        """The marks of one file to be written. edit: None of a picture, which has no watermark.

        Raises VideoError where the source cannot be read.
        """
        payload = edit.payload() if self.is_on and edit is not None else None
        return FileMarks(self, payload, overwrite=overwrite)

    def of_recording(self, *, overwrite: bool) -> FileMarks:
        """The marks of one recording; its number is drawn for it alone."""
        return FileMarks(self, Payload.drawn() if self.is_on else None, overwrite=overwrite)


@dataclass(frozen=True, slots=True)
class Edit:
    """What one file is made of: its source, and all that was asked for, as a text."""

    source: Path
    settings: str

    def payload(self) -> Payload:
        """The payload of this edit: the same whenever this file is edited so.

        Of a large file SAMPLES parts are looked at, evenly spread. Raises VideoError.
        """
        digest = hashlib.sha256(self.settings.encode())
        try:
            size = self.source.stat().st_size
            digest.update(size.to_bytes(8, "big"))
            with self.source.open("rb") as file:
                for part in range(SAMPLES):
                    file.seek(max(0, size - SAMPLE_BYTES) * part // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
        except OSError as error:
            raise VideoError(f"{self.source} cannot be read: {error.strerror}") from error
        return Payload(int.from_bytes(digest.digest()[:8], "big") % (1 << NUMBER_BITS))


class FileMarks:
    """The marks of one file while it is written.

    watermark: to be given to the filter, None where nothing is marked. notes: what could not be
    signed, and why. is_signed: whether the file is, from `sign` on.
    """

    def __init__(self, marking: Marking, payload: Payload | None, *, overwrite: bool) -> None:
        self.watermark = None if payload is None else Watermark(payload)
        self.notes: tuple[str, ...] = ()
        self.is_signed = False
        self._marking, self._overwrite = marking, overwrite

    def number(self, frames_marked: int) -> str | None:
        """The watermark's number, None where no frame has it."""
        if self.watermark is None or not frames_marked:
            return None
        return self.watermark.payload.identifier

    def unsigned_note(self, path: Path) -> str | None:
        """Why a file of that name will not be signed, for people; None where it will, or could not.

        Nothing is said to people who have no certificate.
        """
        if self._marking.why_unsigned is not None:
            return self._marking.why_unsigned
        return None if self._marking.credential is None else unsigned_note(path)

    def sign(self, part: PartialFile, source: Path | None, applied: Applied) -> PartialFile | None:
        """A signed copy of a whole file, to be published in its place; None where it cannot be.

        Then a note says why: what was edited is not lost for it.
        """
        note, credential = self.unsigned_note(part.path), self._marking.credential
        if note is not None or credential is None:
            self.notes += () if note is None else (note,)
            return None
        try:
            copy = PartialFile(part.path, overwrite=self._overwrite)
        except VideoError as error:
            self.notes += (f"not signed: {error}",)
            return None
        try:
            sign_into(copy, part.place, source, applied, credential)
        except VideoError as error:
            copy.discard()
            self.notes += (f"not signed: {error}",)
            return None
        except BaseException:
            copy.discard()
            raise
        self.is_signed = True
        return copy


def applied_live(frames: Iterable[live.Applied], watermark: str | None) -> Applied:
    """What was done in a recording, of what was applied to its edited frames, in turn."""
    texts, methods, strength, own = [], [], 0.0, 1.0
    for one in frames:
        target = one.target
        texts.append(goal_text(target) if target is None or not target.prompt else target.prompt)
        methods.append(one.method)
        strength = max(strength, 0.0 if target is None else target.strength)
        own = one.own if abs(one.own - 1) > abs(own - 1) else own
    return Applied(
        ", then ".join(dict.fromkeys(texts)) or "none",
        strength,
        ", then ".join(dict.fromkeys(methods)),
        own,
        watermark,
    )
