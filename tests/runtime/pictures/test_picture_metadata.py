from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from mien.runtime.pictures.metadata import (
    EXTENDED,
    FURTHER,
    GAIN_MAP,
    THUMBNAIL,
    UNREADABLE,
    VIDEO,
    TiffBlock,
    plain_exif,
    plain_photoshop,
    plain_xmp,
)
from mien.runtime.pictures.picture import Picture, decode_picture, encode_picture
from mien.runtime.pictures.png import png_chunk

MAKER_NOTE = bytes(range(100))
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DUBLIN = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
ITEMS = "http://ns.google.com/photos/1.0/container/"


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [120 + 80 * np.sin(x / 9 + y / 17), 60 + x, 200 - y]
    return np.clip(np.dstack(planes), 0, 255).astype(np.uint8)


def small_jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def exif_block(
    thumbnail: bytes, order: str = "little", preview: bytes = b"", raw: bytes = b""
) -> bytes:
    """EXIF with an orientation, a maker's note, and the picture in whichever places it may have."""

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "little" if order == "little" else "big")

    def field(tag: int, kind: int, count: int, value: int) -> bytes:
        short = number(value, 2) + b"\0\0" if kind == 3 else number(value)
        return number(tag, 2) + number(kind, 2) + number(count) + short

    note = MAKER_NOTE + preview
    exif_at = 8 + 2 + 24 + 4
    note_at = exif_at + 2 + 12 + 4
    small_at = note_at + len(note)
    places = ((0x0201, 0x0202, thumbnail), (0x0111, 0x0117, raw))
    tags = [(a, b, data) for a, b, data in places if data]
    data_at = small_at + 2 + 24 * len(tags) + 4
    small = b""
    for start, length, data in sorted(tags):
        small += field(start, 4, 1, data_at) + field(length, 4, 1, len(data))
        data_at += len(data)
    block = (b"II*\0" if order == "little" else b"MM\0*") + number(8)
    block += number(2, 2) + field(0x0112, 3, 1, 6) + field(0x8769, 4, 1, exif_at)
    block += number(small_at if tags else 0)
    block += number(1, 2) + field(0x927C, 7, len(note), note_at) + number(0) + note
    if tags:
        block += number(2 * len(tags), 2) + small + number(0)
    return block + b"".join(data for _, _, data in sorted(tags))


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def jpeg_of(*segments: bytes, behind: bytes = b"") -> bytes:
    encoded = cv2.imencode(".jpg", scene())[1].tobytes()
    return encoded[:2] + b"".join(segments) + encoded[2:] + behind


def xmp(attributes: str, elements: str = "") -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {RDF}><rdf:Description rdf:about="" {DUBLIN} dc:title="a title" {attributes}>'
        f"<dc:creator>somebody</dc:creator>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
        f'{" " * 200}<?xpacket end="w"?>'
    ).encode()


def edited(data: bytes) -> tuple[Picture, bytes]:
    picture = decode_picture(data)
    return picture, encode_picture(picture, picture.frame)


def resource(number: int, payload: bytes) -> bytes:
    odd = b"\0" * (len(payload) & 1)
    return (
        b"8BIM"
        + number.to_bytes(2, "big")
        + b"\0\0"
        + len(payload).to_bytes(4, "big")
        + payload
        + odd
    )


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("where", ["thumbnail", "preview", "raw"])
def test_exif_keeps_every_byte_but_those_of_pictures(order: str, where: str) -> None:
    shown = small_jpeg() if where != "raw" else bytes([200]) * 900
    parts = {"thumbnail": b"", "preview": b"", "raw": b""} | {where: shown}
    block = exif_block(order=order, **parts)
    clean = plain_exif(block)
    assert clean.left_out == (THUMBNAIL,)
    assert shown[:40] not in clean.block
    assert shown[-400:] not in clean.block
    assert len(clean.block) == len(block)
    assert MAKER_NOTE in clean.block
    directories = list(TiffBlock(clean.block).directories(4))
    assert len(directories) == 1
    assert [entry.tag for entry in directories[0].entries] == [0x0112, 0x8769]
    nothing = exif_block(b"", order)
    assert plain_exif(nothing).block == nothing
    assert plain_exif(nothing).left_out == ()


def test_any_cut_of_exif_is_looked_through() -> None:
    block = exif_block(small_jpeg(), preview=small_jpeg(1))
    for end in range(0, len(block), 5):
        assert len(plain_exif(block[:end]).block) == end
    loop = bytearray(block)
    loop[34:38] = (8).to_bytes(4, "little")  # the next directory is the same one
    assert len(plain_exif(bytes(loop)).block) == len(loop)


GAIN_SPACE = "http://ns.adobe.com/hdr-gain-map/1.0/"
CAMERA = "http://ns.google.com/photos/1.0/camera/"
XMP_CLAIMS = {
    "a gain map": (
        f'xmlns:hdrgm="{GAIN_SPACE}" hdrgm:Version="1.0" xmlns:C="{ITEMS}"',
        "<C:Directory><rdf:Seq><rdf:li><C:Item/></rdf:li></rdf:Seq></C:Directory>",
        (GAIN_MAP,),
        (b"gain-map", b"Directory", ITEMS.encode()),
    ),
    "a micro video": (
        f"""xmlns:GCamera='{CAMERA}' GCamera:MicroVideo="1" GCamera:MicroVideoOffset='4711'
        GCamera:SpecialTypeID="a mode > b" """,
        "",
        (VIDEO,),
        (b"MicroVideo", b"4711"),
    ),
    "a motion photo told by elements": (
        f'xmlns:GCamera="{CAMERA}"',
        "<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MotionPhotoVersion/>",
        (VIDEO,),
        (b"MotionPhoto",),
    ),
    "another prefix": (
        'xmlns:q="http://ns.apple.com/HDRGainMap/1.0/" q:HDRGainMapVersion="65536"',
        "",
        (GAIN_MAP,),
        (b"65536", b"HDRGainMap"),
    ),
    "a thumbnail": (
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:g="http://ns.adobe.com/xap/1.0/g/img/"',
        "<xmp:Thumbnails><rdf:Alt><g:image>/9j/4AAQ</g:image></rdf:Alt></xmp:Thumbnails>",
        (THUMBNAIL,),
        (b"Thumbnails", b"/9j/", b"g/img"),
    ),
    "a picture of any name": (
        'xmlns:mine="http://example.com/"',
        f"<mine:look>{base64.encodebytes(small_jpeg()).decode()}</mine:look>",
        (THUMBNAIL,),
        (b"/9j/",),
    ),
    "extended": (
        'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="0123456789ABCDEF"',
        "",
        (EXTENDED,),
        (b"0123456789ABCDEF",),
    ),
}


@pytest.mark.parametrize("name", XMP_CLAIMS)
def test_xmp_loses_its_claims_and_nothing_else(name: str) -> None:
    from xml.etree import ElementTree as ET

    attributes, elements, left_out, gone = XMP_CLAIMS[name]
    clean = plain_xmp(xmp(attributes, elements))
    assert clean.left_out == left_out
    assert not any(word in clean.block for word in gone)
    ET.fromstring(clean.block.decode())
    for kept in (b'dc:title="a title"', b"<dc:creator>somebody</dc:creator>", b'end="w"?>'):
        assert kept in clean.block
    if "SpecialTypeID" in attributes:
        assert b'GCamera:SpecialTypeID="a mode > b"' in clean.block


def test_xmp_without_claims_is_kept_byte_for_byte() -> None:
    for packet in (xmp(""), b"<not xml", b"", xmp('xmlns:Z="http://example.com/" Z:any="1"')):
        assert plain_xmp(packet).block == packet
        assert plain_xmp(packet).left_out == ()


def test_xmp_that_claims_something_and_cannot_be_read_is_left_out() -> None:
    whole = xmp('xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"')
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + whole[whole.index(b"<x:xmpmeta") :]
    for packet in (whole[: len(whole) // 2], bomb):
        assert plain_xmp(packet).left_out == (UNREADABLE,)
        assert plain_xmp(packet).block == b""
    assert b"gain" not in plain_xmp(whole.decode().encode("utf-16")).block


def test_photoshop_resources_keep_all_but_pictures() -> None:
    caption = resource(1028, b"IPTC of some kind")
    path = resource(2000, b"a path")
    clean = plain_photoshop(caption + resource(1036, bytes(28) + small_jpeg()) + path)
    assert clean.block == caption + path
    assert clean.left_out == (THUMBNAIL,)
    assert plain_photoshop(caption).block == caption
    assert small_jpeg() not in plain_photoshop(caption + b"torn" + small_jpeg()).block


def with_photoshop(data: bytes) -> tuple[bytes, ...]:
    """Resources over two segments, as Photoshop spreads those that are too long for one."""
    resources = resource(1028, b"a caption") + resource(1036, bytes(28) + data + bytes(70_000))
    parts = (resources[:65_000], resources[65_000:])
    return tuple(segment(0xED, b"Photoshop 3.0\0" + part) for part in parts)


JPEGS: dict[str, Callable[[bytes], bytes]] = {
    "exif": lambda small: jpeg_of(segment(0xE1, b"Exif\0\0" + exif_block(small))),
    "a second exif": lambda small: jpeg_of(
        segment(0xE1, b"Exif\0\0" + exif_block(b"")), segment(0xE1, b"Exif\0\0" + small)
    ),
    "jfxx": lambda small: jpeg_of(segment(0xE0, b"JFXX\0\x10" + small)),
    "photoshop": lambda small: jpeg_of(*with_photoshop(small)),
    "a comment": lambda small: jpeg_of(segment(0xFE, small)),
    "another application": lambda small: jpeg_of(segment(0xE1, b"FLIR\0\1\0\0" + small)),
    "extended xmp": lambda small: jpeg_of(
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + base64.b64encode(small))
    ),
    "behind": lambda small: jpeg_of(behind=small),
}


@pytest.mark.parametrize("name", JPEGS)
def test_no_jpeg_holds_itself_as_it_was(name: str) -> None:
    small = small_jpeg()
    picture, result = edited(JPEGS[name](small))
    assert result.count(b"\xff\xd8\xff") == 1
    assert small[100:400] not in result
    assert base64.b64encode(small)[:400] not in result
    if name not in ("a comment", "another application"):
        assert picture.container.left_out
    if name == "photoshop":
        assert b"a caption" in result
    again = decode_picture(result)
    assert again.lost is None
    assert again.container.left_out == ()


def test_a_raw_thumbnail_of_jfif_is_left_out() -> None:
    jfif = b"JFIF\0\1\1\1\0\x48\0\x48\x04\x04" + bytes([77]) * 48
    encoded = cv2.imencode(".jpg", scene())[1].tobytes()
    picture, result = edited(encoded[:2] + segment(0xE0, jfif) + encoded[20:])
    assert picture.container.left_out == (THUMBNAIL,)
    assert segment(0xE0, jfif[:12] + b"\0\0") in result
    assert bytes([77]) * 48 not in result


def test_what_lies_behind_a_jpeg_is_named_by_what_it_is() -> None:
    gain = b"\xff\xd8" + segment(0xE1, b"http://ns.adobe.com/hdr-gain-map/1.0/") + small_jpeg()[2:]
    video = b"\0\0\0\x18ftypmp42" + bytes(99)
    samsung = b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + video + b"SEFH" + bytes(20) + b"SEFT"
    index = segment(0xE2, b"MPF\0MM\0*" + bytes(80))
    names = {
        (GAIN_MAP,): jpeg_of(index, behind=gain),
        (VIDEO,): jpeg_of(behind=video),
        (FURTHER,): jpeg_of(index, behind=small_jpeg()),
        (): jpeg_of(behind=b"\0" * 40),
    }
    for left_out, data in names.items():
        picture, result = edited(data)
        assert picture.container.left_out == left_out
        assert b"MPF\0" not in result
        assert result.endswith(b"\xff\xd9")
    picture, result = edited(jpeg_of(behind=samsung))
    assert picture.container.left_out == (VIDEO,)
    assert b"MotionPhoto" not in result
    assert b"ftyp" not in result


def png_of(*chunks: bytes) -> bytes:
    encoded = cv2.imencode(".png", scene())[1].tobytes()
    return encoded[:33] + b"".join(chunks) + encoded[33:]


def profile(kind: bytes, block: bytes) -> bytes:
    """EXIF or the like as ImageMagick writes it into a PNG."""
    text = b"\n%s\n%8d\n" % (kind, len(block))
    digits = block.hex().encode()
    text += b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72)) + b"\n"
    return png_chunk(b"zTXt", b"Raw profile type " + kind + b"\0\0" + zlib.compress(text))


PNGS: dict[str, Callable[[bytes], bytes]] = {
    "exif": lambda small: png_chunk(b"eXIf", exif_block(small, "big")),
    "profile": lambda small: profile(b"exif", b"Exif\0\0" + exif_block(small)),
    "resources": lambda small: profile(b"8bim", resource(1036, small)),
    "text": lambda small: png_chunk(b"tEXt", b"look\0" + base64.b64encode(small)),
    "xmp": lambda small: png_chunk(
        b"iTXt",
        b"XML:com.adobe.xmp\0\1\0\0\0"
        + zlib.compress(
            xmp('xmlns:m="http://m/"', f"<m:a>{base64.b64encode(small).decode()}</m:a>")
        ),
    ),
}


@pytest.mark.parametrize("name", PNGS)
def test_no_png_holds_itself_as_it_was(name: str) -> None:
    small = small_jpeg()
    words = png_chunk(b"tEXt", b"Title\0a title")
    picture, result = edited(png_of(words, PNGS[name](small)))
    assert picture.container.left_out == (THUMBNAIL,)
    assert words in result
    again = decode_picture(result)
    assert again.container.left_out == ()
    assert again.lost is None
    assert again.container.orientation == picture.container.orientation
    whole = b"".join(again.container.metadata)
    assert small[100:200] not in whole
    assert (b"<dc:creator>somebody" in whole) == (name == "xmp")


def test_a_text_that_would_fill_the_memory_does_not_come_along() -> None:
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(40 << 20), 9))
    picture, result = edited(png_of(bomb))
    assert picture.container.left_out == ("a text that is too long to look into",)
    assert b"zTXt" not in result
    torn = png_chunk(b"zTXt", b"a\0\0what is no deflate")
    assert torn in edited(png_of(torn))[1]


def test_no_webp_holds_itself_as_it_was() -> None:
    encoded = cv2.imencode(".webp", scene(), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()

    def chunk(name: bytes, payload: bytes) -> bytes:
        return name + len(payload).to_bytes(4, "little") + payload + b"\0" * (len(payload) & 1)

    canvas = (127).to_bytes(3, "little") + (95).to_bytes(3, "little")
    body = b"WEBP" + chunk(b"VP8X", bytes([0x0C, 0, 0, 0]) + canvas) + encoded[12:]
    body += chunk(b"EXIF", b"Exif\0\0" + exif_block(small_jpeg()))
    body += chunk(b"XMP ", xmp(XMP_CLAIMS["a micro video"][0]))
    picture, result = edited(b"RIFF" + len(body).to_bytes(4, "little") + body)
    assert picture.container.left_out == (THUMBNAIL, VIDEO)
    assert decode_picture(result).container.orientation == 6
    assert b"\xff\xd8\xff" not in result
    assert b"MicroVideo" not in result
    assert b"somebody" in result
