"""Runs the links of an avatar while the program at their other end dies and comes back.

    python scripts/soak_links.py --minutes 10 --link socket --link mqtt

An avatar is steered through one link after the other by a client that is killed every ten seconds,
in the middle of whatever it does, and started again. Each emotion that it says it has handed over
must show in the avatar's state, asked for at the avatar's own socket. Where a link goes out (vmc,
vts) it is the receiver that is killed: the avatar is steered at its socket, and each emotion must
reach the receiver that runs then. For each link it prints how many were handed over, how many were
lost, how often the client died, and by how much the avatar's memory has grown since the first
minute; it ends with exit status 1 where anything was lost. Links: socket, vmc-in, mqtt (needs
mosquitto), ros (a small rosbridge of its own), vmc and vts (a small VTube Studio of its own); the
clients are python-osc, paho-mqtt, roslibpy and websockets, which the extra dev brings.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final

import paho.mqtt.client as mqtt
import psutil
import roslibpy
import typer
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient
from websockets.exceptions import WebSocketException
from websockets.sync.server import serve

PICTURE: Final = Path(__file__).parents[1] / "apps" / "sample" / "portrait.jpg"
LINKS: Final = ("socket", "vmc-in", "mqtt", "ros", "vmc", "vts")
EMOTIONS: Final = ("happy", "sad", "surprised", "angry")
RECEIVED: Final = ("happy", "surprised")  # what both outgoing links tell apart
PAUSE_S: Final = 0.1  # between two emotions
CONNECT_S: Final = 3.0  # for the link to find its server
LIVES_S: Final = 10.0  # how long a client lives
CLEAR: Final = 0.5  # of a blend value, and of the way of a smile or of brows, to count as shown
LATE_S: Final = 5.0  # an emotion that does not show within this is lost
START_S: Final = 60.0
SETTLE_S: Final = 60.0  # until memory counts, or a fifth of the time


class Avatar:
    """`mien avatar run` as a process of its own, and its state."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self.path = folder / "s"
        arguments = ["avatar", "run", str(PICTURE), "--size", "128x128", "--pipe", os.devnull]
        arguments += ["--no-virtual", "--socket", str(self.path)]
        arguments += [] if address is None else ["--link", address]
        self.running = subprocess.Popen(
            [sys.executable, "-m", "mien", *arguments],
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + START_S
        while not self.path.exists():
            if self.running.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the avatar with {address} has not started")
            time.sleep(0.1)
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(START_S)
        self._client.connect(str(self.path))
        self._answers = self._client.makefile("rb")
        time.sleep(CONNECT_S)

    def say(self, emotion: str) -> None:
        """Steer it at its socket."""
        self._client.sendall(json.dumps({"emotion": emotion, "ease": 0.2}).encode() + b"\n")
        self._answers.readline()

    def emotion(self) -> str:
        """What it shows, or is on its way to."""
        self._client.sendall(b"{}\n")
        return str(json.loads(self._answers.readline())["state"]["emotion"])

    def shows(self, emotion: str) -> bool:
        """Whether it comes to show an emotion before that counts as lost."""
        until_s = time.monotonic() + LATE_S
        while time.monotonic() < until_s:
            if self.emotion() == emotion:
                return True
            time.sleep(0.01)
        return False

    def memory_mb(self) -> float:
        """What of it is in memory now."""
        return float(psutil.Process(self.running.pid).memory_info().rss) / 1e6

    def close(self) -> None:
        """End it."""
        self._answers.close()
        self._client.close()
        self.running.terminate()
        self.running.wait()


class Bridge:
    """A rosbridge server of what a robot and an avatar need: it hands on what is published."""

    def __init__(self, port: int) -> None:
        self._topics: dict[str, set[Any]] = {}
        self._server = serve(self._serve, "127.0.0.1", port, max_size=None)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, connection: Any) -> None:
        try:  # a client that is killed says no goodbye
            for said in connection:
                entry = json.loads(said)
                listening = self._topics.setdefault(entry.get("topic", ""), set())
                if entry["op"] == "subscribe":
                    listening.add(connection)
                elif entry["op"] == "publish":
                    for other in list(listening):
                        other.send(said)
        except (OSError, WebSocketException):
            pass
        finally:
            for listening in self._topics.values():
                listening.discard(connection)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()


@contextmanager
def other_side(link: str, port: int) -> Iterator[str | None]:
    """The server that a link needs, while it is entered; gives the link's address."""
    with ExitStack() as running:
        if link == "mqtt":
            broker = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
            if broker is None:
                raise SystemExit("mqtt needs mosquitto: sudo apt-get install mosquitto")
            process = running.enter_context(
                subprocess.Popen([broker, "-p", str(port)], stderr=subprocess.DEVNULL)
            )
            running.callback(process.terminate)
        elif link == "ros":
            running.callback(Bridge(port).close)
        addresses = {"vmc-in": "", "mqtt": "/a/face", "ros": "/ada", "vmc": "", "vts": ""}
        known = link in addresses
        yield f"{link}://127.0.0.1:{port}{addresses[link]}" if known else None


def soak(link: str, seconds: float) -> str | None:
    """A line of what came of it; None where something was lost, after it was printed."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, other_side(link, port) as address:
        avatar = Avatar(Path(folder), address)
        try:
            place = str(avatar.path) if address is None else str(port)
            if link in RECEIVING:
                return received(link, avatar, place, seconds)
            return counted(link, avatar, place, seconds)
        finally:
            avatar.close()


def counted(link: str, avatar: Avatar, place: str, seconds: float) -> str | None:
    """As `soak`, of an avatar that runs."""
    said = lost = deaths = 0
    early_mb: float | None = None
    began_s = time.monotonic()
    while (now_s := time.monotonic()) - began_s < seconds:
        client = started(link, place, said)
        assert client.stdin is not None
        assert client.stdout is not None
        dying = threading.Timer(START_S, client.kill)  # one that never says anything
        dying.start()
        for line in client.stdout:
            said += 1
            lost += not avatar.shows(line.decode().strip())
            if time.monotonic() - now_s > LIVES_S:
                break
            client.stdin.write(b"\n")
            client.stdin.flush()
        dying.cancel()
        client.kill()
        client.wait()
        client.stdout.close()
        with suppress(BrokenPipeError):
            client.stdin.close()
        deaths += 1
        if early_mb is None and time.monotonic() - began_s > min(SETTLE_S, seconds / 5):
            early_mb = avatar.memory_mb()
    return told(link, (said, lost, deaths), avatar, early_mb, began_s)


def told(
    link: str,
    counts: tuple[int, int, int],
    avatar: Avatar,
    early_mb: float | None,
    began_s: float,
) -> str | None:
    """Print and give the line of a link: emotions handed over and lost, deaths, memory."""
    said, lost, deaths = counts
    growth = 0.0 if early_mb is None else avatar.memory_mb() - early_mb
    line = f"{link}: {said} handed over, {lost} lost, {deaths} deaths, {growth:+.1f} MB"
    typer.echo(f"{line} in {time.monotonic() - began_s:.0f} s")
    return None if lost or not said else line


def started(link: str, place: str, first: int) -> subprocess.Popen[bytes]:
    """A client of a link, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--client", link, "--place", place, "--first", str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def received(link: str, avatar: Avatar, place: str, seconds: float) -> str | None:
    """As `counted`, of a link that goes out: its receiver is what dies."""
    said = lost = deaths = 0
    early_mb: float | None = None
    began_s = time.monotonic()
    emotions = itertools.cycle(RECEIVED)
    emotion = next(emotions)
    avatar.say(emotion)
    while (now_s := time.monotonic()) - began_s < seconds:
        client = started(link, place, 0)
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        reading = threading.Thread(target=hear, args=(client, heard))
        reading.start()
        lost += not comes(emotion, heard, START_S)  # what was said last shows to who comes back
        while time.monotonic() - now_s < LIVES_S:
            emotion = next(emotions)
            avatar.say(emotion)
            said += 1
            lost += not comes(emotion, heard, LATE_S)
            time.sleep(PAUSE_S)
        client.kill()
        client.wait()
        reading.join()
        deaths += 1
        if early_mb is None and time.monotonic() - began_s > min(SETTLE_S, seconds / 5):
            early_mb = avatar.memory_mb()
    return told(link, (said, lost, deaths), avatar, early_mb, began_s)


def comes(emotion: str, heard: queue.SimpleQueue[str], within_s: float) -> bool:
    """Whether a receiver prints an emotion in time."""
    until_s = time.monotonic() + within_s
    with suppress(queue.Empty):
        while heard.get(timeout=max(0.0, until_s - time.monotonic())) != emotion:
            pass
        return True
    return False


def hear(client: subprocess.Popen[bytes], heard: queue.SimpleQueue[str]) -> None:
    """Hand on what a client prints until it dies."""
    assert client.stdout is not None
    assert client.stdin is not None
    with client.stdout, client.stdin:
        for line in client.stdout:
            heard.put(line.decode().strip())


class Shown:
    """Prints the emotion that a receiver sees, whenever it becomes another."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, values: dict[str, float]) -> None:
        """values: of RECEIVED, how much of each is shown."""
        seen = max(RECEIVED, key=lambda name: values.get(name, 0.0))
        if values.get(seen, 0.0) > CLEAR and seen != self._last:
            self._last = seen
            sys.stdout.write(f"{seen}\n")
            sys.stdout.flush()


def receive_vmc(place: str) -> None:
    """Be what moves a VRM model, by python-osc."""
    shown, values = Shown(), dict[str, float]()
    dispatcher = Dispatcher()
    dispatcher.map("/VMC/Ext/Blend/Val", lambda _, name, value: values.__setitem__(name, value))
    dispatcher.map("/VMC/Ext/Blend/Apply", lambda *_: shown(values))
    BlockingOSCUDPServer(("127.0.0.1", int(place)), dispatcher).serve_forever()


def receive_vts(place: str) -> None:
    """Be VTube Studio, as far as a face needs it."""
    shown = Shown()

    def answer(connection: Any) -> None:
        with suppress(OSError, WebSocketException):
            for said in connection:
                request = json.loads(said)
                kind, data = request["messageType"], request["data"]
                found: dict[str, Any] = {}
                if kind == "AuthenticationTokenRequest":
                    found = {"authenticationToken": "soak"}
                elif kind == "AuthenticationRequest":
                    found = {"authenticated": data["authenticationToken"] == "soak"}
                else:
                    values = {entry["id"]: entry["value"] for entry in data["parameterValues"]}
                    smile, brows = values["MouthSmile"], values["Brows"]
                    shown({"happy": 2 * smile - 1, "surprised": 2 * brows - 1})
                name = kind.replace("Request", "Response")
                connection.send(json.dumps({"messageType": name, "data": found}))

    serve(answer, "127.0.0.1", int(place)).serve_forever()


RECEIVING: Final = {"vmc": receive_vmc, "vts": receive_vts}


def say(link: str, place: str, first: int) -> None:
    """Say one emotion after the other, each on standard output once it is handed over."""
    emotions = itertools.cycle(EMOTIONS[first % 4 :] + EMOTIONS[: first % 4])
    for emotion in SAYING[link](place, emotions):
        sys.stdout.write(f"{emotion}\n")
        sys.stdout.flush()
        sys.stdin.readline()  # until the one before has been looked for
        time.sleep(PAUSE_S)


def say_at_socket(place: str, emotions: Iterator[str]) -> Iterator[str]:
    """Lines of JSON at a socket, each followed by half of the next."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(place)
        with client.makefile("rb") as answers:
            for emotion in emotions:
                client.sendall(json.dumps({"emotion": emotion}).encode() + b'\n{"emo')
                answers.readline()
                yield emotion
                client.sendall(b'tion": "none", "half": 1}\n')
                answers.readline()


def say_by_vmc(place: str, emotions: Iterator[str]) -> Iterator[str]:
    """OSC over UDP, python-osc's way."""
    client = SimpleUDPClient("127.0.0.1", int(place))
    for emotion in emotions:
        for other in EMOTIONS:
            client.send_message("/VMC/Ext/Blend/Val", [other, float(other == emotion)])
        client.send_message("/VMC/Ext/Blend/Apply", [])
        yield emotion


def say_by_mqtt(place: str, emotions: Iterator[str]) -> Iterator[str]:
    """Messages that the broker has acknowledged."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(place))
    client.loop_start()
    for emotion in emotions:
        sent = client.publish("a/face", json.dumps({"emotion": emotion}), qos=1)
        sent.wait_for_publish()
        yield emotion


def say_by_ros(place: str, emotions: Iterator[str]) -> Iterator[str]:
    """Expressions through the rosbridge, by roslibpy."""
    roslibpy.set_default_transport("asyncio")
    client = roslibpy.Ros("127.0.0.1", int(place))
    client.run(START_S)
    topic = roslibpy.Topic(client, "/ada/expression", "hri_msgs/msg/Expression")
    topic.advertise()
    for emotion in emotions:
        topic.publish(roslibpy.Message({"expression": emotion}))
        yield emotion


SAYING: Final = {
    "socket": say_at_socket,
    "vmc-in": say_by_vmc,
    "mqtt": say_by_mqtt,
    "ros": say_by_ros,
}


def main(
    link: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(LINKS)}.")] = None,
    minutes: Annotated[float, typer.Option(metavar="N", help="For each link.")] = 10.0,
    client: Annotated[str | None, typer.Option(hidden=True)] = None,
    place: Annotated[str, typer.Option(hidden=True)] = "",
    first: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run links while their clients die and come back."""
    if client is not None:
        with suppress(KeyboardInterrupt):
            if client in RECEIVING:
                RECEIVING[client](place)
            say(client, place, first)
        return
    if unknown := set(link or ()) - set(LINKS):
        raise SystemExit(f"there is no link {unknown.pop()} here; there are {', '.join(LINKS)}")
    outcomes = [soak(name, 60 * minutes) for name in link or LINKS]
    raise typer.Exit(None in outcomes)


if __name__ == "__main__":
    typer.run(main)
