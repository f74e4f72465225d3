"""Which encoder and pixel format a video is written with."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mien.engines.errors import VideoError
from mien.runtime.video.writing.encoders import (
    SourceFacts,
    choose_encoders,
    encoder_options,
    nearest_format,
)


def facts(codec: str = "h264", pixel_format: str = "yuv420p", **changes: object) -> SourceFacts:
    """Facts of a source of an even size."""
    settings = {"odd_size": False, "time_base": Fraction(1, 12800), **changes}
    return SourceFacts(codec=codec, pixel_format=pixel_format, **settings)


def anything(_: str) -> bool:
    """A container that holds every codec."""
    return True


@pytest.mark.parametrize(
    ("codec", "encoder"),
    [
        ("h264", "libx264"),
        ("hevc", "libx265"),
        ("libvpx-vp9", "libvpx-vp9"),
        ("vp9", "libvpx-vp9"),
        ("libdav1d", "libsvtav1"),
        ("mpeg4", "mpeg4"),
        ("prores", "prores_ks"),
        ("wmv2", "libx264"),
    ],
)
def test_the_family_of_the_source_is_written(codec: str, encoder: str) -> None:
    pixel_format = "yuv422p10le" if codec == "prores" else "yuv420p"
    assert choose_encoders(None, facts(codec, pixel_format), anything)[0].name == encoder


def test_another_family_is_told() -> None:
    choice = choose_encoders(None, facts("wmv2"), anything)[0]
    assert choice.notes == ("written by libx264: wmv2 cannot be written here as it is",)


def test_an_odd_size_in_x264_gets_full_colour_and_a_note() -> None:
    chosen, notes = nearest_format("yuv420p", ["yuv420p", "yuv444p"], "libx264", odd=True)
    assert chosen == "yuv444p"
    assert "no odd width" in notes[0]


def test_bit_depth_is_never_lost() -> None:
    assert nearest_format("yuv420p10le", ["yuv420p"], "mpeg4", odd=False)[0] is None
    with pytest.raises(VideoError, match="cannot keep"):
        choose_encoders("mpeg4", facts(pixel_format="yuv420p10le"), anything)


def test_mpeg4_is_left_where_it_cannot_count_the_times() -> None:
    source = facts("mpeg4", time_base=Fraction(1, 90000))
    assert choose_encoders(None, source, anything)[0].name == "libx264"


def test_p010_reaches_x264_as_plain_ten_bits_without_a_note() -> None:
    choice = choose_encoders("h264", facts(pixel_format="p010le"), anything)[0]
    assert (choice.pixel_format, choice.notes) == ("yuv420p10le", ())


def test_quality_is_one_scale() -> None:
    def option(name: str, quality: int, key: str) -> float:
        options = encoder_options(name, quality, None, threads=2, picture_bytes=1)
        return float(options[key])

    assert option("libx264", 80, "crf") == 19
    assert option("libx265", 80, "crf") == 21
    assert option("libvpx-vp9", 80, "crf") == 23
    for name, key in (("libx264", "crf"), ("libx265", "crf"), ("mpeg4", "global_quality")):
        values = [option(name, quality, key) for quality in range(0, 100, 5)]
        assert values == sorted(values, reverse=True)
