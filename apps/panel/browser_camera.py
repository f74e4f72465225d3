"""A browser's camera in the place of the machine's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import av

from mien.apps.panel.steering import Loop
from mien.runtime.frame import Frame
from mien.runtime.live.pixels import live_frame
from mien.runtime.live.sources.source import PushSource, Source
from mien.runtime.live.values import SourceFacts


def frame_of_browser(picture: av.VideoFrame) -> Frame:
    """A decoded picture of a browser's video as a live frame; WebRTC video is BT.601."""
    frame = live_frame(picture)
    return replace(frame, layout=replace(frame.layout, matrix="bt601"))


class BrowserCamera:
    """At most one browser's camera; the newest takes the place of the one before.

    While there is one, the machine's own camera is released; it is taken again when the
    browser's ends. changed: called whenever a browser's camera comes or goes.
    """

    def __init__(self, loop: Loop, changed: Callable[[bool], None]) -> None:
        self._loop, self._changed = loop, changed
        self._own: Source | None = None  # the machine's, while a browser's is used
        self._used: PushSource | None = None

    def start(self, name: str, size_wh: tuple[int, int]) -> PushSource:
        """A source that is the loop's camera from now on; the browser's frames go in there."""
        asked = "what the browser sends"
        source = PushSource(SourceFacts(name, size_wh, Fraction(30), "webrtc", asked))
        before = self._loop.use_source(source)
        if self._used is None:
            self._own = before
        else:
            before.close()
        self._used = source
        self._changed(True)
        return source

    def uses(self, source: PushSource) -> bool:
        """Whether it is the camera now."""
        return source is self._used

    def end(self, source: PushSource) -> None:
        """Take the machine's own camera again, unless another browser's came meanwhile."""
        if source is not self._used or self._own is None:
            return
        self._loop.use_source(self._own).close()
        self._used = self._own = None
        self._changed(False)
