"""The panel for other machines: by certificate only, by number only, and where WebRTC goes."""

from __future__ import annotations

import datetime as dt
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.apps.panel.stand_in import EVENT_S, TOKEN, RunningPanel, receive, running_panel


def _write_certificate(folder: Path) -> tuple[Path, Path]:
    """The PEM files of a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "panel")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPanel]:
    folder = tmp_path_factory.mktemp("panel")
    certificate, key = _write_certificate(folder)
    with running_panel(folder, listen="0.0.0.0", certificate=certificate, key=key) as panel:
        yield panel


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is signed by nobody
    return context


def _status(panel: RunningPanel, host: str, **headers: str) -> int:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", panel.port, timeout=EVENT_S, context=_context()
    )
    try:
        connection.request("GET", f"/health?token={TOKEN}", headers={"Host": host, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_network_is_served_by_https_only(panel: RunningPanel) -> None:
    assert panel.server.url == f"https://localhost:{panel.port}/?token={TOKEN}"
    assert _status(panel, panel.host, Origin=f"https://{panel.host}") == 200
    assert _status(panel, panel.host, Origin=f"http://{panel.host}") == 403
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        panel.get(f"/health?token={TOKEN}")


def test_network_is_served_by_the_machines_numbers_and_no_other_name(panel: RunningPanel) -> None:
    assert _status(panel, f"192.168.1.5:{panel.port}") == 200
    assert _status(panel, f"[fe80::1]:{panel.port}") == 200
    assert _status(panel, f"evil.example:{panel.port}") == 403


def test_websocket_is_there_by_tls_too(panel: RunningPanel) -> None:
    url = f"wss://127.0.0.1:{panel.port}/ws?token="
    with connect(url + TOKEN, ssl=_context(), compression=None) as websocket:
        receive(websocket, "hello")
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(url + "wrong", ssl=_context(), compression=None),
    ):
        pass
    assert refused.value.response.status_code == 401
