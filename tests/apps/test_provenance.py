"""Content Credentials: what is signed, what is refused, and what `mien inspect` tells of it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mien.apps.main import run
from mien.apps.marks.credential import Credential, load, local_file, make_local
from mien.apps.marks.inspect import told
from mien.apps.marks.provenance import Applied, read_manifest, sign_file, sign_into, unsigned_note
from mien.calibration.clips.watermarks import PAYLOAD, encoded_file, marked
from mien.engines.errors import UsageError, VideoError
from mien.engines.system.partial_file import PartialFile, remove_leftovers
from mien.runtime.watermark.payload import Payload
from mien.runtime.watermark.reader import Reading

ROOT = Path(__file__).parents[2]
APPLIED = Applied("happy", 0.8, "warp", watermark="0abcdef")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own."""
    folder = tmp_path / "config"
    for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.fixture
def credential(home: Path) -> Credential:
    pytest.importorskip("c2pa")
    make_local(local_file())
    return load()


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / name), pixels)
        return tmp_path / name

    return make


def _packets(path: Path) -> list[tuple[int, int | None, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [
            (packet.stream_index, packet.pts, packet.dts, bytes(packet))
            for packet in container.demux()
            if packet.size
        ]


def _pixels(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def _spoilt(path: Path, place: int) -> Path:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    other = path.with_name(f"spoilt{path.suffix}")
    other.write_bytes(data)
    return other


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_signed_video_validates_and_is_the_same_video(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential, suffix: str
) -> None:
    source = clip(f"in{suffix}", frames=8, audio_tracks=1)
    signed = tmp_path / f"out{suffix}"
    sign_file(source, signed, APPLIED, credential, source=source)
    found = read_manifest(signed)
    assert found is not None
    assert (found.state, found.problems) == ("valid", ())
    assert found.actions == ("c2pa.opened", "c2pa.edited")
    assert found.source_types == ("compositeWithTrainedAlgorithmicMedia",)
    assert found.applied == {
        "expression": "happy",
        "intensity": 0.8,
        "method": "warp",
        "own": 1.0,
        "watermark": "0abcdef",
    }
    assert found.generator.startswith("mien ")
    assert _packets(signed) == _packets(source)
    assert _pixels(signed) == _pixels(source)
    assert not list(tmp_path.glob(".*.part*"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_signed_picture_validates_and_has_the_same_pixels(
    picture: Callable[[str], Path], tmp_path: Path, credential: Credential, suffix: str
) -> None:
    source, signed = picture(f"in{suffix}"), tmp_path / f"out{suffix}"
    sign_file(source, signed, APPLIED, credential, source=source)
    found = read_manifest(signed)
    assert found is not None
    assert found.state == "valid"
    assert np.array_equal(cv2.imread(str(signed)), cv2.imread(str(source)))


def test_changed_pixel_is_found(
    clip: Callable[..., Path],
    picture: Callable[[str], Path],
    tmp_path: Path,
    credential: Credential,
) -> None:
    for source in (clip("in.mp4", frames=8), picture("in.png")):
        signed = tmp_path / f"out{source.suffix}"
        sign_file(source, signed, APPLIED, credential, source=source)
        inner = signed.read_bytes().index(source.read_bytes()[-200:-100]) + 50
        found = read_manifest(_spoilt(signed, inner))
        assert found is not None
        assert found.state == "invalid"
        assert any("Hash.mismatch" in problem for problem in found.problems)


def test_ingredient_keeps_its_own_manifest(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    source, once, twice = clip(), tmp_path / "once.mp4", tmp_path / "twice.mp4"
    sign_file(source, once, APPLIED, credential, source=source)
    sign_file(once, twice, APPLIED, credential, source=once)
    found = read_manifest(twice)
    assert found is not None
    assert (found.state, found.earlier) == ("valid", 1)


def test_source_of_another_kind_and_no_source_are_told_as_they_are(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    clean, matroska = clip("in.mp4"), clip("in.mkv")
    sign_file(clean, tmp_path / "a.mp4", APPLIED, credential, source=matroska)
    sign_file(clean, tmp_path / "b.mp4", APPLIED, credential)
    states = [read_manifest(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    assert [one and one.state for one in states] == ["valid", "valid"]
    assert [one and one.actions[0] for one in states] == ["c2pa.opened", "c2pa.created"]


def test_kind_without_a_place_says_so(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    assert unsigned_note(Path("a.MP4")) is None
    assert "mkv has no place for Content Credentials" in str(unsigned_note(Path("a.mkv")))
    with pytest.raises(UsageError, match="mkv has no place"):
        sign_file(clip("in.mkv"), tmp_path / "out.mkv", APPLIED, credential)
    assert not (tmp_path / "out.mkv").exists()


def test_file_that_is_no_video_leaves_nothing(tmp_path: Path, credential: Credential) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 50)
    with pytest.raises(VideoError, match=r"out\.mp4 could not be signed"):
        sign_file(broken, tmp_path / "out.mp4", APPLIED, credential)
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["broken.mp4"]
    assert not list(tmp_path.glob(".*.part*"))


def test_output_that_exists_is_kept(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    source, taken = clip(), tmp_path / "taken.mp4"
    taken.write_bytes(b"mine")
    with pytest.raises(VideoError, match="exists"):
        sign_file(source, taken, APPLIED, credential)
    assert taken.read_bytes() == b"mine"
    sign_file(source, taken, APPLIED, credential, overwrite=True)
    assert read_manifest(taken) is not None


def test_unpublished_file_is_signed_before_it_has_its_name(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    source, final = clip(), tmp_path / "final.mp4"
    with PartialFile(final) as plain, PartialFile(final) as signed:
        plain.write(source.read_bytes())
        sign_into(signed, plain.place, source, APPLIED, credential)
        assert not final.exists()
        plain.discard()
        signed.publish()
    found = read_manifest(final)
    assert found is not None
    assert found.state == "valid"


def test_killed_signing_leaves_nothing_under_the_name(
    clip: Callable[..., Path], tmp_path: Path, credential: Credential
) -> None:
    source, final = clip(), tmp_path / "final.mp4"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mien.apps.marks.credential import load\n"
        "from mien.apps.marks.provenance import Applied, sign_into\n"
        "from mien.engines.system.partial_file import PartialFile\n"
        "source, final = map(Path, sys.argv[1:])\n"
        "part = PartialFile(final)\n"
        "sign_into(part, source, source, Applied('sad', 1.0, 'warp'), load())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source), str(final)], check=False)
    assert done.returncode != 0
    assert not final.exists()
    assert len(list(tmp_path.glob(".final.mien-*.part.mp4"))) == 1
    remove_leftovers(tmp_path)
    assert not list(tmp_path.glob(".*.part*"))


def test_local_certificate_is_private_and_is_not_replaced_unasked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("c2pa")
    assert run(["provenance", "init"]) == 0
    said = capsys.readouterr().out
    assert str(local_file()) in said
    assert "not who signed it" in said
    assert local_file().is_relative_to(home)
    if os.name == "posix":
        assert local_file().stat().st_mode & 0o777 == 0o600
    before = local_file().read_bytes()
    assert run(["provenance", "init"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert local_file().read_bytes() == before
    assert run(["provenance", "init", "--overwrite"]) == 0
    assert local_file().read_bytes() != before
    assert run(["provenance", "check"]) == 0


def test_without_a_certificate_the_line_says_how_to_make_one(home: Path) -> None:
    pytest.importorskip("c2pa")
    with pytest.raises(UsageError, match="mien provenance init"):
        load()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_key_that_others_can_read_is_refused(credential: Credential) -> None:
    assert credential.algorithm == "es256"
    local_file().chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        load()


def _issued(path: Path, *, days: tuple[int, int], purpose: str, selfsigned: bool = False) -> Path:
    """A certificate and its key in a file, valid from one day to another, counted from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, issuer_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    name, issuer = (
        x509.Name([x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, text)])
        for text in ("somebody", "somebody" if selfsigned else "an authority")
    )
    now = dt.datetime.now(dt.timezone.utc)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)])
    certificate = (
        x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(usage, critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain, kind = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, kind, plain))
    return path


EMAIL, TLS = "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.1"


@pytest.mark.parametrize(
    ("days", "purpose", "selfsigned", "words"),
    [
        ((-20, -10), EMAIL, False, "expired on"),
        ((5, 10), EMAIL, False, "valid only from"),
        ((-5, 10), TLS, False, "not for signing"),
        ((-5, 10), EMAIL, True, "signs itself"),
    ],
)
def test_certificates_that_cannot_sign_are_refused(
    tmp_path: Path, days: tuple[int, int], purpose: str, selfsigned: bool, words: str
) -> None:
    pytest.importorskip("c2pa")
    path = _issued(tmp_path / "own.pem", days=days, purpose=purpose, selfsigned=selfsigned)
    with pytest.raises(UsageError, match=words):
        load(path)


def test_certificate_of_ones_own_signs(clip: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    path = _issued(tmp_path / "own.pem", days=(-5, 10), purpose=EMAIL)
    credential = load(path)
    assert credential.algorithm == "es384"
    sign_file(clip(), tmp_path / "out.mp4", APPLIED, credential)
    found = read_manifest(tmp_path / "out.mp4")
    assert found is not None
    assert (found.state, found.signer) == ("valid", "somebody")


def test_key_of_another_certificate_and_rubbish_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    own = _issued(tmp_path / "own.pem", days=(-5, 10), purpose=EMAIL)
    other = _issued(tmp_path / "other.pem", days=(-5, 10), purpose=EMAIL)
    with pytest.raises(UsageError, match="is not that of the certificate"):
        load(own, other)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"\x00rubbish")
    with pytest.raises(UsageError, match="no certificate"):
        load(rubbish)
    with pytest.raises(UsageError, match="no private key"):
        load(own, rubbish)
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path / "missing.pem")


def _split(path: Path) -> tuple[Path, Path]:
    """The certificate and the key of a file as a file each, the key for its owner alone."""
    certificate, key = path.with_suffix(".crt"), path.with_suffix(".key")
    whole = path.read_bytes()
    place = whole.index(b"-----BEGIN PRIVATE KEY")
    certificate.write_bytes(whole[:place])
    key.write_bytes(whole[place:])
    key.chmod(0o600)
    return certificate, key


@pytest.mark.parametrize("in_place", [False, True], ids=["copied", "in place"])
def test_edits_are_signed_with_the_certificate_that_is_to_be_used(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_place: bool
) -> None:
    pytest.importorskip("c2pa")
    certificate, key = _split(_issued(tmp_path / "own.pem", days=(-5, 10), purpose=EMAIL))
    asked = ["provenance", "use", str(certificate), str(key)] + ["--in-place"] * in_place
    assert run(asked) == 0
    assert str(local_file()) in capsys.readouterr().out
    assert local_file().is_relative_to(home)
    if os.name == "posix":
        assert local_file().stat().st_mode & 0o777 == 0o600
    assert (b"PRIVATE KEY" in local_file().read_bytes()) is not in_place
    assert load() == load(certificate, key)
    assert run(["provenance", "check"]) == 0
    assert run(asked) == 2  # nothing is replaced unasked
    assert "--overwrite" in capsys.readouterr().err
    assert run([*asked, "--overwrite"]) == 0
    key.unlink()
    if not in_place:
        assert load().algorithm == "es384"
        return
    with pytest.raises(UsageError, match=rf"cannot read the certificate or key {key}"):
        load()


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_key_in_place_that_others_can_read_is_refused(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("c2pa")
    certificate, key = _split(_issued(tmp_path / "own.pem", days=(-5, 10), purpose=EMAIL))
    asked = ["provenance", "use", str(certificate), str(key), "--in-place"]
    key.chmod(0o640)
    assert run(asked) == 2
    assert not local_file().exists()
    key.chmod(0o600)
    assert run(asked) == 0
    key.chmod(0o644)
    with pytest.raises(UsageError, match=r"others can read the key in .*own\.key"):
        load()


def test_certificate_that_cannot_sign_is_not_used(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("c2pa")
    expired = _issued(tmp_path / "old.pem", days=(-20, -10), purpose=EMAIL)
    of_servers = _issued(tmp_path / "tls.pem", days=(-5, 10), purpose=TLS)
    own = _issued(tmp_path / "own.pem", days=(-5, 10), purpose=EMAIL)
    for given, words in (
        ([expired], "expired on"),
        ([of_servers], "not for signing"),
        ([own, of_servers], "is not that of the certificate"),
        ([tmp_path / "none.pem"], "cannot read"),
    ):
        assert run(["provenance", "use", *map(str, given)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert words in said
    assert not local_file().exists()
    assert not list(home.rglob("*.part*"))


def test_tests_see_no_certificate_of_who_runs_them() -> None:
    assert "pytest" in str(local_file())
    assert not local_file().exists()


def test_inspect_tells_of_both_and_of_what_it_cannot_know(
    clip: Callable[..., Path],
    tmp_path: Path,
    credential: Credential,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, signed = clip(frames=5), tmp_path / "signed.mp4"
    sign_file(source, signed, APPLIED, credential, source=source)
    assert run(["inspect", str(signed)]) == 0
    said = capsys.readouterr().out
    assert "Content Credentials: valid" in said
    assert "expression happy" in said
    assert "Watermark: none is read (no face for 1.5 s)" in said
    assert said.count("Not known:") == 2
    assert run(["inspect", str(signed), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["credentials"]["applied"]["intensity"] == 0.8
    assert report["watermark"]["number"] is None
    assert run(["inspect", str(_spoilt(signed, signed.stat().st_size - 30))]) == 0
    assert "BROKEN" in capsys.readouterr().out


def test_mark_of_an_edited_and_encoded_video_is_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = marked(ROOT / "apps/sample/sample.mp4", "happy")
    assert clip.is_exact
    assert clip.psnr_db > 42
    path = tmp_path / "marked.mp4"
    path.write_bytes(encoded_file(clip.frames, clip.rate, 23).getvalue())
    assert run(["inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["watermark"]["number"] == PAYLOAD.identifier
    assert report["watermark"]["others"] == {}


def test_inspect_of_a_picture_and_of_what_is_no_file(
    picture: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", str(picture("in.png"))]) == 0
    assert "a picture holds no watermark" in capsys.readouterr().out
    assert run(["inspect", str(tmp_path / "none.mp4")]) == 2
    assert run(["inspect", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "is a folder" in lines[1]


def test_without_the_package_inspect_names_the_line_that_adds_it(
    picture: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert run(["inspect", str(picture("in.png"))]) == 0
    said = capsys.readouterr().out
    assert "Not looked for: Content Credentials need c2pa-python: pip install" in said
    assert "Content Credentials: none" not in said


def test_number_that_most_pieces_say_is_told() -> None:
    one, other = Payload(0xABCDEF), Payload(5)
    readings = [
        Reading(1, 0.0, 3.0, 9.0, None),
        Reading(1, 3.0, 6.0, 15.0, one),
        Reading(1, 6.0, 9.0, 14.0, one),
        Reading(2, 0.0, 3.0, 12.0, other),
    ]
    found = told(readings)
    assert (found.number, found.read, found.pieces) == ("0abcdef", 2, 4)
    assert (found.start_s, found.end_s) == (3.0, 9.0)
    assert found.others == {"0000005": 1}
    assert told(readings[:1]).number is None
