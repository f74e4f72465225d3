"""A GStreamer element, `mien`: changes the expression of the faces in the video that passes it.

GStreamer's loader for Python finds it where GST_PLUGIN_PATH names the folder above this one.
What is heavy is imported where a pipeline starts, not where plugins are listed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import gi
import numpy as np

gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

from mien.engines.errors import MienError, message_of, one_line  # noqa: E402
from mien.runtime.frame import Frame, PixelLayout, Plane  # noqa: E402
from mien.runtime.target import EMOTIONS, MAX_STRENGTH, mixed_target  # noqa: E402

CAPS = "video/x-raw,format=(string){I420,NV12,RGB},width=[2,32767],height=[2,32767]"
PADS = (("src", Gst.PadDirection.SRC), ("sink", Gst.PadDirection.SINK))
PLAIN = GObject.ParamFlags.READWRITE
CONTROLLED = PLAIN | Gst.PARAM_CONTROLLABLE
ABOUT = "Changes the expression of the faces in a video to named emotions; all else stays"
MATRICES = {"bt601": "bt601", "bt2020": "bt2020"}  # all others are taken for BT.709
SETTINGS = ("method", "face", "provider")


def _strength(emotion: str) -> tuple[Any, ...]:
    told = f"How strongly faces are to look {emotion}: 1 is the full expression"
    return (float, emotion.capitalize(), told, 0.0, MAX_STRENGTH, 0.0, CONTROLLED)


def _word(name: str, told: str, default: str) -> tuple[Any, ...]:
    return (str, name, f"{told}; read where the pipeline starts", default, PLAIN)


SOFTEN = "How much of a person's own expression is shown: 1 is all of it, more amplifies it"
WATERMARK = "Whether edited faces get the watermark that mien inspect reads; read as method is"
PROPERTIES = {emotion: _strength(emotion) for emotion in EMOTIONS} | {
    "soften": (float, "Soften", SOFTEN, 0.25, 1.5, 1.0, CONTROLLED),
    "method": _word("Method", "As of mien edit --method", "warp"),
    "face": _word("Face", "all, largest, or the number of one from the left", "all"),
    "provider": _word("Provider", "What runs the networks, as of mien edit --provider", "cpu"),
    "watermark": (bool, "Watermark", WATERMARK, True, PLAIN),
}


class Mien(GstBase.BaseTransform):  # type: ignore[misc]  # gi has no types
    """Writes the edit into the buffer that passes, within the faces alone."""

    __gtype_name__ = "GstMien"
    __gstmetadata__ = ("Change of expression", "Filter/Effect/Video", ABOUT, "The mien founders")
    __gsttemplates__ = tuple(
        Gst.PadTemplate.new(name, way, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(CAPS))
        for name, way in PADS
    )
    __gproperties__ = PROPERTIES

    def __init__(self) -> None:
        super().__init__()
        self._values = {name: told[-2] for name, told in PROPERTIES.items()}  # their defaults
        self._filter: Any = None
        self._info: Any = None

    def do_get_property(self, prop: Any) -> Any:
        return self._values[prop.name]

    def do_set_property(self, prop: Any, value: Any) -> None:
        self._values[prop.name] = value

    def do_start(self) -> bool:
        from mien.runtime.filter import Filter  # noqa: PLC0415
        from mien.runtime.watermark.payload import Payload  # noqa: PLC0415
        from mien.runtime.watermark.watermark import Watermark  # noqa: PLC0415

        try:
            self._filter = Filter(None, **{name: self._values[name] for name in SETTINGS})
        except MienError as error:
            return self._failed(error)
        if self._values["watermark"]:
            self._filter.watermark = Watermark(Payload.drawn())
        return True

    def do_stop(self) -> bool:
        if self._filter is not None:
            self._filter.close()
        return True

    def do_set_caps(self, caps: Any, _out: Any) -> bool:
        self._info = GstVideo.VideoInfo.new_from_caps(caps)
        return True

    def do_transform_ip(self, buffer: Any) -> Any:
        if buffer.pts != Gst.CLOCK_TIME_NONE:
            self.sync_values(self.segment.to_stream_time(Gst.Format.TIME, buffer.pts))
        try:
            self._filter.own = self._values["soften"]
            self._filter.target = mixed_target([self._values[name] for name in EMOTIONS])
            with buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as mapped:
                self._edit_into(self._views(buffer, mapped.data), buffer.pts)
        except (MienError, Gst.MapError) as error:
            self._failed(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def _edit_into(self, views: list[np.ndarray], pts: int) -> None:
        """Edit the picture where it lies. views: its planes, in memory that ends with the call."""
        colour, is_rgb = self._info.colorimetry, len(views) == 1
        full_range = is_rgb or colour.range == GstVideo.VideoColorRange(1)  # 0..255
        matrix: Any = MATRICES.get(colour.matrix.value_nick, "bt709")
        layout = PixelLayout("rgb" if is_rgb else "yuv", full_range=full_range, matrix=matrix)
        # copies, for the filter may look at a picture again when the next one is here
        planes = [
            Plane(view.copy(), (2, 2) if index else (1, 1)) for index, view in enumerate(views)
        ]
        time = None if pts == Gst.CLOCK_TIME_NONE else pts
        size = (self._info.width, self._info.height)
        frame = Frame(tuple(planes), layout, *size, time, Fraction(1, Gst.SECOND))
        for view, before, after in zip(
            views, planes, self._filter.apply(frame).planes, strict=True
        ):
            if after.samples is not before.samples:
                view[...] = after.samples

    def _views(self, buffer: Any, data: Any) -> list[np.ndarray]:
        """The planes as arrays in the buffer's own memory, with its strides."""
        info, meta = self._info, GstVideo.buffer_get_video_meta(buffer)
        offsets, strides = (meta.offset, meta.stride) if meta else (info.offset, info.stride)
        whole, half = (info.height, info.width), ((info.height + 1) // 2, (info.width + 1) // 2)
        of_count: dict[int, list[tuple[int, ...]]]
        of_count = {1: [(*whole, 3)], 2: [whole, (*half, 2)], 3: [whole, half, half]}
        planes = zip(of_count[info.finfo.n_planes], offsets, strides, strict=False)
        return [
            np.ndarray(shape, np.uint8, data, offset, (stride, *shape[2:], 1))
            for shape, offset, stride in planes
        ]

    def _failed(self, error: BaseException) -> bool:
        """False, once the pipeline was told in one line."""
        told = GLib.Error(one_line(message_of(error)), "gst-library-error-quark", 1)
        self.post_message(Gst.Message.new_error(self, told, ""))
        return False


GObject.type_register(Mien)
__gstelementfactory__ = ("mien", Gst.Rank.NONE, Mien)
