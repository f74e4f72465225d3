"""A web page of somebody else in a real browser that sends by WHIP and receives by WHEP."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.apps.panel.browser import chromium, wait_until

for package in ("starlette", "uvicorn", "aiortc", "selenium"):
    pytest.importorskip(package)

from tests.apps.panel.stand_in import TOKEN, running_panel  # noqa: E402 -- needs those

pytestmark = pytest.mark.slow  # a browser
PAGE = b"""<!doctype html><meta charset="utf-8"><title>another page</title>
<canvas id="sent" width="320" height="240"></canvas><video id="video" muted autoplay></video>
<script>
// A number is drawn as 16 squares, and read from the middle of each.
const BITS = 16, SIDE = 20, made = [], seen = [], facts = {};
const drawing = document.getElementById("sent").getContext("2d");
const reading = new OffscreenCanvas(320, 240).getContext("2d", {willReadFrequently: true});
const video = document.getElementById("video");

function draw() {
  drawing.fillStyle = "#808080";
  drawing.fillRect(0, 0, 320, 240);
  for (let bit = 0; bit < BITS; bit++) {
    drawing.fillStyle = made.length >> bit & 1 ? "#e0e0e0" : "#202020";
    drawing.fillRect(bit * SIDE, 0, SIDE, 120);
  }
  made.push(performance.now());
}

function read() {
  if (video.videoWidth === 320) {
    reading.drawImage(video, 0, 0);
    const {data} = reading.getImageData(0, 60, 320, 1);
    let number = 0;
    for (let bit = 0; bit < BITS; bit++) {
      if (data[4 * (bit * SIDE + SIDE / 2) + 1] > 128) number |= 1 << bit;
    }
    seen.push([number, performance.now()]);
  }
  video.requestVideoFrameCallback(read);
}

async function open(peer, url, token) {
  await peer.setLocalDescription(await peer.createOffer());
  const headers = {"Authorization": `Bearer ${token}`, "Content-Type": "application/sdp"};
  const body = peer.localDescription.sdp;
  const answer = await fetch(url, {method: "POST", headers, body});
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  await peer.setRemoteDescription({type: "answer", sdp: await answer.text()});
  return new URL(answer.headers.get("Location"), url).href;
}

async function begin(at, token) {
  const sender = new RTCPeerConnection(), receiver = new RTCPeerConnection();
  setInterval(draw, 1000 / 30);
  const [track] = document.getElementById("sent").captureStream(30).getVideoTracks();
  sender.addTransceiver(track, {direction: "sendonly"});
  facts.whip = await open(sender, `${at}/whip`, token);
  receiver.ontrack = (event) => { video.srcObject = new MediaStream([event.track]); read(); };
  receiver.addTransceiver("video", {direction: "recvonly"});
  facts.whep = await open(receiver, `${at}/whep`, token);
}

async function end(token) {
  const headers = {"Authorization": `Bearer ${token}`};
  const answers = await Promise.all(
    [facts.whip, facts.whep].map((url) => fetch(url, {method: "DELETE", headers})));
  return answers.map((answer) => answer.status);
}
</script>"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if self.path == "/":
            self.wfile.write(PAGE)

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def other_page() -> Iterator[str]:
    """The address of a page that is not the panel's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def asynchronous(driver: Any, call: str, *arguments: str) -> Any:
    """What a promise of the page gives; fails with what it is refused with."""
    script = f"""
    const done = arguments[arguments.length - 1];
    {call}(...Array.from(arguments).slice(0, -1)).then(
        (value) => done([value, null]), (error) => done([null, String(error)]));
    """
    value, error = driver.execute_async_script(script, *arguments)
    assert error is None, error
    return value


def test_a_page_of_somebody_else_sends_by_whip_and_sees_by_whep(tmp_path: Path) -> None:
    with running_panel(tmp_path) as panel, other_page() as address, chromium() as driver:
        driver.get(address)
        asynchronous(driver, "begin", f"http://{panel.host}", TOKEN)
        wait_until(lambda: driver.execute_script("return seen.length") > 60, "the picture comes")
        assert panel.loop.stats().source.name == "WHIP camera"
        seen, made = driver.execute_script("return [seen, made]")
        numbers = [number for number, _ in seen]
        assert all(number < len(made) for number in numbers)
        assert numbers == sorted(numbers)
        assert len(set(numbers)) > 40
        assert asynchronous(driver, "end", TOKEN) == [200, 200]
        wait_until(lambda: panel.loop.source is panel.camera, "the camera is back")
        wait_until(lambda: panel.server.preview.viewers == 0, "nobody looks")
        errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not [entry["message"] for entry in errors if "favicon" not in entry["message"]]
