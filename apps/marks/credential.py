"""The certificate and the key that Content Credentials are signed with."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mien.engines.errors import UsageError
from mien.engines.system.install import extras_line
from mien.engines.system.partial_file import PartialFile, check_free, remove_leftovers

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

FILE_MODE, FOLDER_MODE = 0o600, 0o700
YEARS: Final = 5
MAX_BYTES: Final = 1 << 20  # of a file with certificates

# What a certificate may be for, by C2PA's own list: signing of C2PA claims, e-mail, documents.
PURPOSES: Final = ("1.3.6.1.4.1.62558.2.1", "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36")
CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
LOCAL_ISSUER: Final = "mien on this computer (self-made)"
WORTH: Final = (
    "it shows that a file is as it was signed, and not who signed it: anyone can make one like it, "
    "so readers say that the signer is not trusted; for a name, use a certificate of an authority"
)


@dataclass(frozen=True, slots=True)
class Credential:
    """What signs.

    chain, key: PEM, the signing certificate first. algorithm: C2PA's name of it, as `es256`.
    """

    chain: bytes
    key: bytes
    algorithm: str


def local_file() -> Path:
    """Where this user's own credential lies: in the user's configuration folder."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA", "~/AppData/Roaming"))
    elif sys.platform == "darwin":
        folder = Path("~/Library/Application Support")
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    try:
        return folder.expanduser() / "mien" / "credential.pem"
    except RuntimeError as error:  # a user without a name, as in a container
        raise UsageError(
            "this user has no home folder for a certificate; set XDG_CONFIG_HOME to a folder"
        ) from error


def check_package() -> None:
    """Raise UsageError where what signs and reads is not installed."""
    try:
        import c2pa  # noqa: F401, PLC0415 -- an extra
        import cryptography  # noqa: F401, PLC0415 -- as c2pa
    except ImportError as error:
        raise UsageError(
            f"Content Credentials need c2pa-python: {extras_line('provenance')}"
        ) from error


def make_local(path: Path, *, overwrite: bool = False) -> Path:
    """Write a new key and its certificate, mode 0600, and return their file.

    The certificate is issued by a root made for it, whose key nobody keeps: C2PA takes none that
    signs itself. Raises UsageError where the file exists (unless `overwrite`) or cannot be written.
    """
    check_package()
    _check_vacant(path, overwrite=overwrite)
    return _store(path, _new_pem(), overwrite=overwrite)


def use_own(
    certificate: Path, key: Path, path: Path, *, copies: bool = True, overwrite: bool = False
) -> Path:
    """Let files be signed with a certificate that there is, and return the file that says so.

    certificate, key: PEM, which may be one file. copies: keep both in `path`; else only where they
    lie, where nobody else may read the key.
    Raises UsageError for what `load` refuses, and as `make_local`.
    """
    check_package()
    found = load(certificate, key)
    _check_vacant(path, overwrite=overwrite)
    if copies:
        return _store(path, found.key + found.chain, overwrite=overwrite)
    _check_private(key)
    places = {"certificate": str(certificate.absolute()), "key": str(key.absolute())}
    return _store(path, json.dumps(places).encode(), overwrite=overwrite)


def _check_vacant(path: Path, *, overwrite: bool) -> None:
    if path.is_file() and not overwrite:
        raise UsageError(f"there is a certificate already, {path}; --overwrite replaces it")


def _store(path: Path, content: bytes, *, overwrite: bool) -> Path:
    """Write this user's credential, mode 0600, and return its file. Raises UsageError."""
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    check_free(path, overwrite=overwrite, error=UsageError)
    remove_leftovers(path.parent)
    with PartialFile(path, overwrite=overwrite, error=UsageError) as part:
        if sys.platform != "win32":
            os.fchmod(part.file.fileno(), FILE_MODE)
        part.write(content)
        part.publish(durable=True)
    return path


def _new_pem() -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- an extra

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("mien local root", root_key, None, root_key)
    leaf = _certificate("mien local signer", key, root, root_key)
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return private + leaf.public_bytes(pem) + root.public_bytes(pem)


def _certificate(
    name: str,
    key: PrivateKeyTypes,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKeyTypes,
) -> x509.Certificate:
    """A certificate of a key; a root where there is no issuer."""
    from cryptography import x509  # noqa: PLC0415 -- an extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 -- an extra
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 -- an extra

    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, LOCAL_ISSUER),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    now, is_root = dt.datetime.now(dt.timezone.utc), issuer is None
    public: object = key.public_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(is_root, 0 if is_root else None), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),  # type: ignore[arg-type]
        (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),  # type: ignore[arg-type]
            False,
        ),
        (
            x509.KeyUsage(
                digital_signature=not is_root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_root,
                crl_sign=is_root,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        ),
    ]
    if not is_root:
        purposes = [x509.ObjectIdentifier(number) for number in PURPOSES[:2]]
        extensions.append((x509.ExtendedKeyUsage(purposes), False))
    builder = x509.CertificateBuilder(
        issuer_name=subject if issuer is None else issuer.subject,
        subject_name=subject,
        public_key=public,  # type: ignore[arg-type]
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(minutes=5),  # a clock may be a little off
        not_valid_after=now + dt.timedelta(days=365 * YEARS),
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]


def load(certificate: Path | None = None, key: Path | None = None) -> Credential:
    """The credential in some files, checked; by default this user's own.

    certificate: PEM, the signing certificate first, then those that issued it. key: PEM, None where
    it lies in the same file.
    Raises UsageError for what is missing, cannot be read, has expired or is not for signing.
    """
    check_package()
    path = certificate or local_file()
    if certificate is None and not path.is_file():
        raise UsageError(
            "there is no certificate to sign with; `mien provenance init` makes a local one"
        )
    text = _read(path)
    if certificate is None:
        _check_private(path)
        if text.startswith(b"{"):
            path, key = _places(text, path)
            text = _read(path)
            _check_private(key)
    private = _read(key) if key is not None else text
    return _checked(text, private, path, key or path)


def _check_private(key: Path) -> None:
    """Raise UsageError where anybody else may read a key."""
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        raise UsageError(f"cannot read the certificate or key {key}: {error.strerror}") from error
    if sys.platform != "win32" and mode & 0o077:
        raise UsageError(f"others can read the key in {key} (mode {mode:04o}); chmod 600 it")


def _places(text: bytes, path: Path) -> tuple[Path, Path]:
    """Where the certificate and the key of a user lie who keeps them elsewhere."""
    try:
        places = json.loads(text)
        return Path(places["certificate"]), Path(places["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} says neither a certificate nor where one lies; "
            "`mien provenance use CERT KEY --overwrite` names one"
        ) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the certificate or key {path}: {error.strerror}") from error


def _checked(text: bytes, private: bytes, path: Path, key_path: Path) -> Credential:
    from cryptography import x509  # noqa: PLC0415 -- an extra
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 -- an extra

    encoding = serialization.Encoding.PEM
    try:
        chain = x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise UsageError(f"{path} holds no certificate in PEM form") from error
    try:
        key = serialization.load_pem_private_key(private, password=None)
    except TypeError as error:
        raise UsageError(f"the key in {key_path} has a password; give one without") from error
    except Exception as error:  # its kinds differ between versions of the package
        raise UsageError(f"{key_path} holds no private key in PEM form that can be used") from error
    _check_dates(chain[0], path)
    _check_purpose(chain[0], path)
    plain = serialization.NoEncryption()
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    own, signed = key.public_key(), chain[0].public_key()
    if own.public_bytes(encoding, public) != signed.public_bytes(encoding, public):
        raise UsageError(f"the key in {key_path} is not that of the certificate in {path}")
    pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    whole = b"".join(one.public_bytes(encoding) for one in chain)
    return Credential(whole, pem, _algorithm(key, path))


def _check_dates(certificate: x509.Certificate, path: Path) -> None:
    now = dt.datetime.now(dt.timezone.utc)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        renew = (
            "`mien provenance init --overwrite` makes a new one"
            if path == local_file()
            else "renew it"
        )
        raise UsageError(f"the certificate in {path} expired on {last:%Y-%m-%d}; {renew}")
    if now < first:
        raise UsageError(f"the certificate in {path} is valid only from {first:%Y-%m-%d} on")


def _check_purpose(certificate: x509.Certificate, path: Path) -> None:
    from cryptography import x509  # noqa: PLC0415 -- an extra

    what = f"the certificate in {path} is not for signing"
    if certificate.issuer == certificate.subject:
        raise UsageError(f"{what} files: it signs itself, and C2PA takes none that does")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        raise UsageError(f"{what} files: it does not say what it is for") from error
    named = {purpose.dotted_string for purpose in purposes}
    if not usage.digital_signature or usage.key_cert_sign or not named & set(PURPOSES):
        raise UsageError(
            f"{what} files: it needs the usage digitalSignature and the purpose of C2PA, e-mail or "
            "documents"
        )


def _algorithm(key: PrivateKeyTypes, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 -- an extra
        ec,
        ed25519,
        rsa,
    )

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise UsageError(
        f"the certificate in {path} has a key of a kind that C2PA does not take; it takes ECDSA on "
        "P-256, P-384 and P-521, Ed25519, and RSA from 2048 bits on"
    )
