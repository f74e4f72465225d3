"""The marks of what the commands write: a watermark in the edited faces, and a signed statement.

Both are there unless they are left out by name (`--no-marks`). The watermark needs no package; the
statement, Content Credentials, needs the extra `provenance` and a certificate of this user.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mien.apps.marks.credential import Credential, check_package, load, local_file
from mien.apps.marks.provenance import Applied, sign_into, unsigned_note
from mien.engines.errors import UsageError, VideoError
from mien.engines.system.partial_file import PartialFile
from mien.runtime.live import values as live
from mien.runtime.target import goal_text
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.watermark import Watermark


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

    def of_file(self, *, overwrite: bool, moves: bool = True) -> FileMarks:
        """The marks of one file to be written; its number is drawn for it alone.

        moves: whether it is a video; a picture has no watermark.
        """
        return FileMarks(self, overwrite=overwrite, moves=moves)


class FileMarks:
    """The marks of one file while it is written.

    watermark: to be given to the filter, None where nothing is marked. notes: what could not be
    signed, and why. is_signed: whether the file is, from `sign` on.
    """

    def __init__(self, marking: Marking, *, overwrite: bool, moves: bool = True) -> None:
        self.watermark = Watermark(Payload.drawn()) if marking.is_on and moves else None
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
