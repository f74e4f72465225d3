"""Where the panel listens, and to whom."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import socket
import ssl
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from mien.engines.errors import DeviceError, UsageError

PORT: Final = 8765
STATIC_FILES: Final = Path(__file__).parent / "static"  # the page and what belongs to it
_PORTS_TRIED = 100  # above a port that is taken
# What a slow reader has not taken yet is old: two pictures, not the megabytes the system allows.
_SEND_BUFFER = 128 * 1024
BACKLOG: Final = 128  # connections that wait to be accepted
_LABEL: Final = re.compile(r"[a-z0-9_-]+")  # of a host's name
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 -- what a user may ask for


def new_token() -> str:
    """A secret for the panel's address."""
    return secrets.token_urlsafe(24)


def presets_file() -> Path:
    """Where presets are kept: in the user's configuration folder."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA", "~/AppData/Roaming"))
    elif sys.platform == "darwin":
        folder = Path("~/Library/Application Support")
    else:
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return folder.expanduser() / "mien" / "presets.json"


@dataclass(frozen=True, slots=True)
class PreviewSettings:
    """The picture a browser gets.

    width: pixels at most; rate: frames a second at most. reduced_width and reduced_rate: the same
    while the machine is too slow. jpeg_quality: 1..100, of the fallback without WebRTC.
    output_width: pixels at most of the picture by WHEP, which is never reduced.

    At the defaults the encoder takes about a tenth of the time of the filter.
    """

    width: int = 640
    rate: float = 30.0
    reduced_width: int = 480
    reduced_rate: float = 15.0
    jpeg_quality: int = 80
    output_width: int = 1280


@dataclass(frozen=True, slots=True)
class Limits:
    """What the panel takes from one side of the network before it says no.

    connections: open at a time; sockets: of them WebSockets; streams: of JPEGs, which are made once
    for all, and as many single pictures; videos: by WebRTC, each encoded by itself. message_bytes:
    of a WebSocket message; body_bytes: of a request. request_s: for an encrypted connection and a
    request to come whole; send_s: for a reader to take what was sent, such as a picture.
    """

    connections: int = 64
    sockets: int = 16
    streams: int = 16
    videos: int = 8
    message_bytes: int = 64 * 1024
    body_bytes: int = 64 * 1024
    request_s: float = 5.0
    send_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PanelSettings:
    """Settings of the panel.

    listen: the address of a network card; other than loopback ones ask for certificate and key,
    files in PEM. port: 0 takes any free one. token: the secret in every request.
    presets: the file presets are kept in.
    """

    port: int = PORT
    listen: str = "127.0.0.1"
    certificate: Path | None = None
    key: Path | None = None
    token: str = field(default_factory=new_token, repr=False)
    presets: Path = field(default_factory=presets_file)
    preview: PreviewSettings = field(default_factory=PreviewSettings)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port must lie in 0..65535, not {self.port}")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("--certificate and --key belong together: give both or neither")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UsageError(f"cannot read {path}; --certificate and --key are PEM files")
        if not self.is_loopback and self.certificate is None:
            raise UsageError(
                f"--listen {self.listen} lets everybody in the network reach the camera's picture, "
                "so it asks for --certificate and --key (PEM); the default listens to this machine "
                "only"
            )
        tls_context(self)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine is listened to."""
        if self.listen == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.listen).is_loopback
        except ValueError:
            return False

    @property
    def scheme(self) -> str:
        """`http`, or `https` with a certificate."""
        return "http" if self.certificate is None else "https"


def certificate_names(certificate: Path | None) -> tuple[str, ...]:
    """What a certificate is for, as in its SAN: `desk.example.org`, `*.example.org`, `10.0.0.5`.

    A common name alone is not looked at, as in browsers.
    """
    if certificate is None:
        return ()
    try:
        leaf, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ()  # whether it can be used at all is for `tls_context` to say
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return (*hosts, *(str(number) for number in names.get_values_for_type(x509.IPAddress)))


def covers(names: Iterable[str], host: str) -> bool:
    """Whether a certificate for those names is for that host; a star stands for one label."""
    host = host.lower().rstrip(".")
    label, _, domain = host.partition(".")
    is_starred = _LABEL.fullmatch(label) is not None and "." in domain
    wanted = {host if "*" not in host else "", f"*.{domain}" if is_starred else ""} - {""}
    return not wanted.isdisjoint(names)


def address_host(settings: PanelSettings) -> str:
    """The host in the panel's address: where others come in, one that the certificate is for."""
    listen, names = settings.listen, certificate_names(settings.certificate)
    if settings.is_loopback or covers(names, listen):
        return listen
    machine = socket.gethostname().partition(".")[0].lower()
    named = [name for name in names if "*" not in name and name != "localhost"]
    named.sort(key=lambda name: name.partition(".")[0] != machine)  # this machine's own first
    starred = [machine + name[1:] for name in names if name.startswith("*.")]
    usable = [*(name for name in named if not is_number(name)), *starred, *named]
    usable = [name for name in usable if covers(names, name)]
    return usable[0] if usable else "localhost" if listen in EVERYWHERE else listen


def is_number(host: str) -> bool:
    """Whether a host is given by its IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def tls_context(settings: PanelSettings) -> ssl.SSLContext | None:
    """What encrypts, None without a certificate. Raises UsageError where they cannot be used."""
    certificate, key = settings.certificate, settings.key
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # without a password there is no question on the terminal
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"--certificate {certificate} and --key {key} cannot be used; give a certificate and "
            "its own key, both in PEM and without a password"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def listening_socket(settings: PanelSettings) -> socket.socket:
    """A bound socket. Raises UsageError, where the port is in use with the next free one."""
    try:
        found = socket.getaddrinfo(settings.listen, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--listen {settings.listen}: {error.strerror or error}") from error
    family, _, _, _, address = found[0]
    try:
        return _bound(family, address)
    except OSError as error:
        raise _not_bound(settings, family, address, error) from error


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let two programs have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        bound.bind(address)
        # Bound alone is not taken: another program could still listen first.
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _not_bound(
    settings: PanelSettings, family: int, address: tuple[object, ...], error: OSError
) -> UsageError | DeviceError:
    where = f"{settings.listen}:{settings.port}"
    host, port, *rest = address
    assert isinstance(port, int)
    for other in range(port + 1, min(port + 1 + _PORTS_TRIED, 65536)):
        with contextlib.suppress(OSError):
            _bound(family, (host, other, *rest)).close()
            return UsageError(
                f"the panel cannot listen at {where}: {error.strerror}; "
                f"port {other} is free: add --port {other}"
            )
    return DeviceError(f"the panel cannot listen at {where}: {error.strerror}")
