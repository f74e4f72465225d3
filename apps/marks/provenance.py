"""Content Credentials (C2PA): a signed statement in a file of what was done to its picture.

A file is signed before it has its name: `sign_into` writes the signed copy of an unpublished file
into another `PartialFile`, which is published in its place. Nothing is asked of the network: no
time stamps, no manifests that lie elsewhere, no lists of revoked certificates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mien.apps.marks.credential import Credential, check_package
from mien.engines.errors import UsageError, VideoError
from mien.engines.system.partial_file import PartialFile, check_free, remove_leftovers

MEDIA_TYPES: Final = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".qt": "video/quicktime",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
# IPTC's word for a photograph of which a trained network changed a part.
SOURCE_TYPE: Final = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
_OFFLINE: Final = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}
PREFIX: Final = "mien."  # of the parameters that say what was applied
UNTRUSTED: Final = "signingCredential.untrusted"
# What a reader says where there is no manifest, or the kind of file has no place for one.
_NONE: Final = ("ManifestNotFound", "NotSupported")


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to a picture.

    expression: as it was asked for, `happy:0.7+sad:0.3`, or `none`. intensity: 0..1.5. own: how
    much of the person's own expression is left. watermark: the number in it, or None.
    """

    expression: str
    intensity: float
    method: str
    own: float = 1.0
    watermark: str | None = None

    def parameters(self) -> dict[str, Any]:
        """By the names that the manifest has for them."""
        said = {
            "expression": self.expression,
            "intensity": self.intensity,
            "method": self.method,
            "own": self.own,
            "watermark": self.watermark,
        }
        return {PREFIX + name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file's Content Credentials say.

    state: `valid` (the file is as it was signed), `trusted` (its signer is known, too), `invalid`.
    problems: C2PA's codes of what is wrong. applied: what mien says that it did, without prefix.
    earlier: how many manifests of its ingredients are kept.
    """

    state: str
    signer: str
    signed_at: str | None
    generator: str
    actions: tuple[str, ...]
    source_types: tuple[str, ...]
    applied: Mapping[str, Any]
    problems: tuple[str, ...]
    earlier: int


def media_type(path: Path) -> str | None:
    """C2PA's name of a kind of file that can be signed, None for others."""
    return MEDIA_TYPES.get(path.suffix.lower())


def unsigned_note(path: Path) -> str | None:
    """The line for a file whose kind has no place for Content Credentials; None where it has."""
    if media_type(path) is not None:
        return None
    kind = path.suffix.lower().removeprefix(".") or "this kind of file"
    return (
        f"{kind} has no place for Content Credentials, so the file is not signed; "
        "mp4, mov, jpg, png and webp have one"
    )


def sign_into(
    part: PartialFile,
    unsigned: Path,
    source: Path | None,
    applied: Applied,
    credential: Credential,
) -> None:
    """Write a signed copy of `unsigned` into `part`, which the caller then publishes.

    unsigned: a whole file, of the kind that `part` will be. source: what it was made of, kept as
    its ingredient with what credentials it has; None where that is not known.
    Raises UsageError without the package, VideoError where the file cannot be signed.
    """
    check_package()
    import c2pa  # noqa: PLC0415 -- an extra

    kind = media_type(part.path)
    if kind is None:
        raise UsageError(unsigned_note(part.path))
    title = part.path.name
    try:
        builder = c2pa.Builder(_definition(title, applied), c2pa.Context.from_dict(_OFFLINE))
        if source is None:  # as a recording, whose pictures came from a camera
            taken = c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
            builder.set_intent(c2pa.C2paBuilderIntent.CREATE, taken)
        else:
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            _add_source(builder, source)
        signer = c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(credential.algorithm, credential.chain, credential.key, None)
        )
        part.file.truncate(0)
        with unsigned.open("rb") as read, part.place.open("r+b") as written, signer:
            builder.sign(signer, kind, read, written)
    except c2pa.C2paError as error:
        raise VideoError(f"{part.path} could not be signed ({_reason(error)})") from error
    except OSError as error:
        raise part.told(error) from error
    found = read_manifest(part.place, kind)
    if found is None or found.state == "invalid":
        raise VideoError(
            f"{part.path} was signed, but its Content Credentials do not hold "
            f"({', '.join(found.problems) if found else 'none are found'})"
        )


def sign_file(
    path: Path,
    destination: Path,
    applied: Applied,
    credential: Credential,
    *,
    source: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a signed copy of a finished file, whole or not at all; both may be one name.

    Raises UsageError, VideoError.
    """
    check_free(destination, overwrite=overwrite)
    remove_leftovers(destination.parent)
    with PartialFile(destination, overwrite=overwrite) as part:
        sign_into(part, path, source, applied, credential)
        part.publish()


def _definition(title: str, applied: Applied) -> dict[str, Any]:
    action = {
        "action": "c2pa.edited",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": {"name": "mien", "version": version("mien")},
        "description": "The expression of faces was changed.",
        "parameters": applied.parameters(),
    }
    return {
        "claim_generator_info": [{"name": "mien", "version": version("mien")}],
        "title": title,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }


def _add_source(builder: Any, source: Path) -> None:
    """Keep the source as the parent, with its own manifest; of kinds without one, its name."""
    kind = media_type(source) or "application/octet-stream"
    parent = {"title": source.name, "relationship": "parentOf"}
    with source.open("rb") as file:
        builder.add_ingredient(parent, kind, file)


def read_manifest(path: Path, kind: str | None = None) -> Manifest | None:
    """What the Content Credentials of a file say, None where it has none.

    kind: its media type, None to tell by its name.
    Raises UsageError without the package, VideoError for a file that cannot be read.
    """
    check_package()
    import c2pa  # noqa: PLC0415 -- an extra

    named = kind or media_type(path)
    if named is None:
        return None
    try:
        with path.open("rb") as file:
            reader = c2pa.Reader(named, file, context=c2pa.Context.from_dict(_OFFLINE))
            with reader:
                return _told(json.loads(reader.json()), str(reader.get_validation_state()))
    except c2pa.C2paError as error:
        if any(str(error).startswith(name) for name in _NONE):
            return None
        raise VideoError(
            f"the Content Credentials of {path} cannot be read ({_reason(error)})"
        ) from error
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error


def _told(store: dict[str, Any], state: str) -> Manifest:
    """The facts of a reader's report."""
    manifests = store.get("manifests", {})
    active = manifests.get(store.get("active_manifest"), {})
    actions = [
        action
        for assertion in active.get("assertions", [])
        if assertion.get("label", "").startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    parameters: dict[str, Any] = {}
    for action in actions:
        parameters |= action.get("parameters") or {}
    signature, made = active.get("signature_info", {}), active.get("claim_generator_info") or [{}]
    failures = [status.get("code", "") for status in store.get("validation_status", [])]
    return Manifest(
        state=state.lower(),
        signer=str(signature.get("issuer") or signature.get("common_name") or "unknown"),
        signed_at=signature.get("time"),
        generator=" ".join(str(made[0].get(key, "")) for key in ("name", "version")).strip(),
        actions=tuple(str(action.get("action")) for action in actions),
        source_types=tuple(
            str(action["digitalSourceType"]).rsplit("/", 1)[-1]
            for action in actions
            if action.get("digitalSourceType")
        ),
        applied={
            key.removeprefix(PREFIX): value
            for key, value in parameters.items()
            if key.startswith(PREFIX)
        },
        problems=tuple(code for code in failures if code != UNTRUSTED),
        earlier=len(manifests) - 1,
    )


def _reason(error: Exception) -> str:
    """A library's error in a few words."""
    return " ".join(str(error).split())[:200]
