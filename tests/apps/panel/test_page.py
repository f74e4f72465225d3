"""The panel's page in a real browser, on the real filter and the bundled sample."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from websockets.sync.client import connect

import mien.apps
from mien.runtime.faces.own_expression import LEAST, MOST
from mien.runtime.filter import Filter
from mien.runtime.live.controls import Controls
from mien.runtime.live.loop import LiveLoop
from mien.runtime.live.sources.source import open_source
from tests.apps.panel.browser import SmileMeter, chromium, picture, tunnel, wait_until

for package in ("starlette", "uvicorn", "aiortc", "selenium"):
    pytest.importorskip(package)

from mien.apps.panel.app import PanelServer  # noqa: E402 -- needs the packages above
from mien.apps.panel.presets import STARTERS  # noqa: E402 -- needs the packages above
from mien.apps.panel.settings import PanelSettings  # noqa: E402
from tests.apps.panel.stand_in import running_panel, write_certificate  # noqa: E402

pytestmark = pytest.mark.slow  # a browser, for half a minute of processor time
SAMPLE = Path(mien.apps.__file__).parent / "sample" / "sample.mp4"
TOKEN = "a-token-for-the-page"
CLEARLY = 0.03  # outer-eye distances by which a mouth's corners rise; happy raises them by 0.1
MARK = np.array([0, 200, 0])  # the colour at the left of the browser's own camera


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("panel")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[SimpleNamespace]:
    """The live loop on the sample, the panel, and a browser with a camera of its own."""
    with chromium(camera=_camera_clip(folder / "camera.mjpeg")) as driver:
        controls = Controls()
        loop = LiveLoop(open_source(str(SAMPLE)), _make_filter, [], controls)
        with loop, PanelServer(loop, _settings(folder)) as server:
            meter = SmileMeter()
            yield SimpleNamespace(
                driver=driver,
                loop=loop,
                controls=controls,
                server=server,
                folder=folder,
                smile=lambda at: meter(picture(driver, at)),
            )
            meter.close()


@pytest.fixture
def page(running: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The page, loaded again, showing the picture; at the end without an error on its console."""
    running.controls.update(
        target=None, face="all", paused=False, mark=False, method="warp", own=1.0
    )
    driver = running.driver
    driver.get(running.server.url)
    _wait_for_way(driver, "WebRTC")
    _slide(driver, "#intensity", 100)  # the server keeps it while there is no target
    yield running
    assert _errors(driver) == []


def _settings(folder: Path, port: int = 0) -> PanelSettings:
    return PanelSettings(port=port, token=TOKEN, presets=folder / "presets.json")


def _make_filter(state: Any) -> Filter:
    return Filter(None, method=state.method, **dict(state.options))


def _camera_clip(path: Path) -> Path:
    """The sample with a stripe of colour at its left, as JPEGs one after the other."""
    with av.open(str(SAMPLE)) as sample, av.open(str(path), "w", format="mjpeg") as clip:
        source = sample.streams.video[0]
        stream = clip.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuvj420p"
        for index, frame in enumerate(sample.decode(source)):
            rgb = frame.to_ndarray(format="rgb24", threads=1)
            rgb[:, :60] = MARK
            marked = av.VideoFrame.from_ndarray(rgb, "rgb24")
            marked.pts = index
            clip.mux(stream.encode(marked))
            if index == 30:
                break
        clip.mux(stream.encode())
    return path


def _errors(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def _wait_for_way(driver: Any, way: str) -> None:
    wait_until(
        lambda: _text(driver, "#link-text") == f"Live · {way}", f"the picture comes by {way}"
    )


def _element(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def _text(driver: Any, selector: str) -> str:
    return str(_element(driver, selector).text)


def _click(driver: Any, emotion: str) -> None:
    """Click the button of an emotion, again where the page moves beneath the pointer."""
    intercepted = importlib.import_module("selenium.common").ElementClickInterceptedException

    def is_clicked() -> bool:
        try:
            _element(driver, f"[data-emotion={emotion}]").click()
        except intercepted:
            return False
        return True

    wait_until(is_clicked, f"{emotion} is clicked")


def _slide(driver: Any, selector: str, percent: int) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
    driver.execute_script(script, _element(driver, selector), percent)


def _wait_for_smile(
    page: SimpleNamespace, *, above: float = -1.0, below: float = 1.0, at: str = "video"
) -> None:
    seen: list[float | None] = []

    def is_there() -> bool:
        seen.append(page.smile(at))
        return seen[-1] is not None and above < seen[-1] < below

    try:
        wait_until(is_there, f"the mouth in {at} comes to lie in {above:.3f}..{below:.3f}")
    except AssertionError as error:
        stats = page.loop.stats()
        facts = f"{_text(page.driver, '#link-text')}, {_name(page)}, {seen[-5:]}, {stats}"
        raise AssertionError(f"{error}: {facts}") from error


def _calm_smile(page: SimpleNamespace, at: str = "video") -> float:
    """The mouth's corners without an edit: the median of three looks."""
    looks = []
    wait_until(
        lambda: len(looks.append(page.smile(at)) or [x for x in looks if x is not None]) >= 3,
        "a face is shown",
    )
    return float(np.median([look for look in looks if look is not None]))


def _keys(driver: Any) -> Any:
    return importlib.import_module("selenium.webdriver").ActionChains(driver)


def test_a_click_on_happy_lifts_the_mouth_in_the_picture_and_none_lets_it_go(page):
    before = _calm_smile(page)

    _click(page.driver, "happy")
    _wait_for_smile(page, above=before + CLEARLY)
    assert page.controls.snapshot().target.name == "happy"
    assert _element(page.driver, "[data-emotion=happy]").get_attribute("aria-pressed") == "true"

    _click(page.driver, "none")
    _wait_for_smile(page, below=before + CLEARLY / 2)
    assert page.controls.snapshot().target is None


def test_the_original_is_shown_here_as_long_as_compare_is_held_and_the_edit_goes_on(page):
    before = _calm_smile(page)
    _click(page.driver, "happy")
    _wait_for_smile(page, above=before + CLEARLY)

    _keys(page.driver).key_down("b").perform()
    _wait_for_smile(page, below=before + CLEARLY / 2, at="original")
    assert _text(page.driver, "#badge") == "Original"
    assert not page.controls.snapshot().paused
    _keys(page.driver).key_up("b").perform()
    assert picture(page.driver, "original") is None

    _keys(page.driver).click_and_hold(_element(page.driver, "#compare")).perform()
    _wait_for_smile(page, below=before + CLEARLY / 2, at="original")
    _keys(page.driver).release().perform()
    assert not _element(page.driver, "#badge").is_displayed()

    _element(page.driver, "#paused").click()  # this one is for everybody
    _wait_for_smile(page, below=before + CLEARLY / 2)
    assert page.controls.snapshot().paused


def test_sliders_set_intensity_and_a_mix_that_is_never_more_than_a_whole(page):
    _click(page.driver, "happy")
    _slide(page.driver, "#intensity", 60)
    wait_until(lambda: _strength(page) == 0.6, "the intensity is 0.6")
    assert _text(page.driver, "#intensity-value") == "60 %"

    _element(page.driver, "#mix summary").click()
    _slide(page.driver, "#mix-sad", 30)
    wait_until(lambda: _name(page) == "happy70-sad30", "happy gives way to sad")
    assert _text(page.driver, "#mix-text") == "happy 70 %, sad 30 %"

    page.controls.update(target=None)  # by somebody else: the page follows
    wait_until(
        lambda: _element(page.driver, "#mix-sad").get_attribute("value") == "0",
        "the slider follows the server",
    )


def test_a_slider_softens_the_own_expression_and_rests_at_all_of_it(page):
    driver, slider = page.driver, _element(page.driver, "#own")
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == (
        str(round(100 * LEAST)), str(round(100 * MOST)),
    )  # fmt: skip
    _slide(driver, "#own", 40)
    wait_until(lambda: page.controls.snapshot().own == 0.4, "it is softened")
    assert _text(driver, "#own-value") == "40 %"
    _edits_go_on(page)  # without any other expression
    _slide(driver, "#own", 97)  # as keys do it
    wait_until(lambda: page.controls.snapshot().own == 0.97, "no key jumps")
    press = "arguments[0].dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))"
    driver.execute_script(press, slider)
    _slide(driver, "#own", 98)
    wait_until(lambda: page.controls.snapshot().own == 1, "a dragged one rests at 100 %")
    assert _text(driver, "#own-value") == "100 %"

    _choose_method(driver, "parts")
    wait_until(lambda: not slider.is_enabled(), "it is disabled where the method cannot")
    assert _text(driver, "#own-note") == "Parts cannot soften or amplify it; Warp can."
    _choose_method(driver, "warp")
    wait_until(slider.is_enabled, "it is enabled")
    assert not _element(driver, "#own-note").is_displayed()


def test_the_page_is_used_by_keys_alone_and_the_focus_is_always_seen(page):
    keys = importlib.import_module("selenium.webdriver").Keys
    _keys(page.driver).send_keys("2").perform()
    wait_until(lambda: _name(page) == "happy", "the key 2 chooses happy")
    _keys(page.driver).send_keys("--").perform()
    wait_until(lambda: _strength(page) == 0.8, "minus lowers the intensity")
    _keys(page.driver).send_keys("?").perform()
    wait_until(_element(page.driver, "#help").is_displayed, "the keys are told")
    _keys(page.driver).send_keys(keys.ESCAPE).perform()
    assert not _element(page.driver, "#help").is_displayed()

    page.driver.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        _keys(page.driver).send_keys(keys.TAB).perform()
        name, outline = page.driver.execute_script(
            "const e = document.activeElement, s = (x) => getComputedStyle(x).outlineStyle;"
            "return [e.id || e.dataset.emotion || e.value || e.className,"
            " e === document.body || [e, e.nextElementSibling].some((x) => x && s(x) === 'solid')]"
        )
        assert outline, f"no outline at {name}"
        if name == "intensity" and name not in reached:
            _keys(page.driver).send_keys(keys.ARROW_RIGHT).perform()
        reached.add(name)
    wait_until(lambda: _strength(page) == 0.81, "an arrow moves the slider")
    wanted = {"help-open", "none", "contemptuous", "intensity", "preset-name", "all", "method"}
    assert wanted | {"compare", "browser-camera", "mark", "paused", "box"} <= {
        name.split()[0] for name in reached if name
    }


def test_a_face_is_chosen_by_a_click_on_it_and_again_to_edit_all(page):
    driver = page.driver
    box = wait_until(lambda: driver.find_elements("css selector", ".box"), "a face is seen")[0]
    shown, stage = box.rect, _element(driver, "#stage").rect
    assert stage["x"] < shown["x"]
    assert shown["x"] + shown["width"] < stage["x"] + stage["width"]
    box.click()
    wait_until(lambda: page.controls.snapshot().face == "1", "face 1 is chosen")
    assert _element(driver, "#face-choice input[value='1']").is_selected()
    box.click()
    wait_until(lambda: page.controls.snapshot().face == "all", "all faces are chosen")


def test_presets_are_saved_applied_deleted_and_brought_back(page):
    starters = _presets(page.driver)
    assert starters == [preset.name for preset in STARTERS]
    _click(page.driver, "sad")
    wait_until(lambda: _name(page) == "sad", "sad is chosen")
    _element(page.driver, "#preset-name").send_keys("Monday 2")  # no hotkey while text is typed
    _element(page.driver, "#preset-name").submit()
    listed = [*starters, "Monday 2"]
    wait_until(lambda: _presets(page.driver) == listed, "the preset is listed")
    assert _name(page) == "sad"

    _click(page.driver, "none")
    _element(page.driver, "#presets li:last-child .apply").click()
    wait_until(lambda: _name(page) == "sad", "the preset is applied")
    _element(page.driver, "#presets li:last-child .remove").click()
    wait_until(lambda: _presets(page.driver) == starters, "the preset is gone")
    _element(page.driver, ".notice button").click()
    wait_until(lambda: _presets(page.driver) == listed, "the preset is back")
    _element(page.driver, "#presets li:last-child .remove").click()
    wait_until(lambda: _presets(page.driver) == starters, "the preset is gone again")


def test_a_flood_by_somebody_else_leaves_the_page_to_the_one_before_it(page):
    before = _presets(page.driver)
    url = f"ws://127.0.0.1:{page.server.port}/ws?token={TOKEN}"
    with contextlib.ExitStack() as others:
        flooder = others.enter_context(connect(url, compression=None, close_timeout=1))
        flooder.send(json.dumps({"type": "ping"}))
        # Silent ones, more than there are places: they make room for each other, not the page.
        for _ in range(20):
            others.enter_context(connect(url, compression=None, close_timeout=0.1))
        for number in range(60):
            for kind in ("preset_save", "preset_delete"):
                flooder.send(json.dumps({"type": kind, "name": f"flood {number}"}))
            flooder.send(json.dumps({"type": "set", "intensity": number / 60}))
        _click(page.driver, "sad")
        wait_until(lambda: _name(page) == "sad", "sad is chosen")
        assert _text(page.driver, "#link-text") == "Live · WebRTC"
        flooder.send(json.dumps({"type": "preset_save", "name": "last"}))
        wait_until(lambda: _presets(page.driver) == [*before, "last"], "only the last is left")
        flooder.send(json.dumps({"type": "preset_delete", "name": "last"}))
        wait_until(lambda: _presets(page.driver) == before, "the last one is gone as well")


def _presets(driver: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#presets .apply')].map((e) => e.textContent)"
    return list(driver.execute_script(script))


def test_this_browsers_camera_is_filtered_and_released_again(page):
    button = _element(page.driver, "#browser-camera")
    button.click()
    wait_until(
        lambda: _is_marked(picture(page.driver, "video")), "the browser's picture comes back"
    )
    assert page.loop.stats().source.name == "browser camera"
    before = _calm_smile(page)
    _click(page.driver, "happy")
    _wait_for_smile(page, above=before + CLEARLY)

    button.click()
    wait_until(lambda: page.loop.stats().source.name != "browser camera", "the camera is released")
    wait_until(
        lambda: (rgb := picture(page.driver, "video")) is not None and not _is_marked(rgb),
        "the own camera is back",
    )


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_page_and_text_stands_out(page, width, scheme):
    driver = page.driver
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        _click(driver, "happy")
        driver.execute_script("document.getElementById('mix').open = true")
        wait_until(lambda: _name(page) == "happy", "happy is chosen")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert wait_until(lambda: not driver.execute_script(FAINT), "all text stands out 4.5 to 1")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_blend_is_chosen_where_the_method_has_one(page):
    driver = page.driver

    def blends() -> Any:
        return driver.find_elements("id", "blend-choice")

    assert not blends()
    _choose_method(driver, "parts")
    wait_until(lambda: blends() and blends()[0].is_displayed(), "the blends are shown")
    chosen = blends()[0].find_element("css selector", "input:checked")
    assert chosen.get_attribute("value") == "field"
    paste = blends()[0].find_element("css selector", "[value=paste]")
    driver.execute_script("arguments[0].click()", paste)
    wait_until(lambda: _method(page) == ("parts", {"blend": "paste"}), "it is set")
    cyclegan = driver.find_element("css selector", "#gan-choice [value=cyclegan]")
    driver.execute_script("arguments[0].click()", cyclegan)
    both = {"blend": "paste", "gan": "cyclegan"}
    wait_until(lambda: _method(page) == ("parts", both), "the other one stays")
    _choose_method(driver, "warp")
    wait_until(lambda: not blends(), "the blends are gone")  # the page shows it before it is so
    wait_until(lambda: _method(page) == ("warp", {}), "it is set without them")


def test_a_method_that_cannot_scale_the_own_expression_is_told_and_not_taken(page):
    driver = page.driver
    _slide(driver, "#own", 50)
    wait_until(lambda: page.controls.snapshot().own == 0.5, "it is softened")
    _choose_method(driver, "parts")
    told = (
        "The method parts cannot soften or amplify a person's own expression "
        "(it shows it as it is: 1)"
    )
    wait_until(lambda: _notices(driver).count(told) == 1, "it is told why parts is not taken")
    wait_until(
        lambda: _element(driver, "#method").get_attribute("value") == "warp", "warp is shown"
    )
    assert _method(page) == ("warp", {})
    assert page.controls.snapshot().own == 0.5


def test_an_expression_that_the_method_cannot_make_is_disabled_and_the_face_stays_edited(page):
    driver = page.driver
    _click(driver, "happy")
    wait_until(lambda: _name(page) == "happy", "happy is chosen")
    _choose_method(driver, "parts")
    wait_until(lambda: page.loop.stats().method == "parts", "parts takes over")
    angry = "[data-emotion=angry]"
    wait_until(lambda: not _element(driver, angry).is_enabled(), "angry is disabled")
    assert _text(driver, "#emotions-note") == "Parts can make neutral, happy and sad only."
    assert not driver.find_element("id", "mix-angry").is_enabled()
    assert [button.text for button in driver.find_elements("css selector", ".apply:disabled")] == [
        "Pleasant surprise"
    ]
    _keys(driver).send_keys("7").perform()  # the key of angry
    assert _notices(driver)[-1] == "Parts cannot make a face angry"
    _edits_go_on(page)
    assert _name(page) == "happy"

    _choose_method(driver, "warp")
    wait_until(lambda: page.loop.stats().method == "warp", "warp is back")
    wait_until(lambda: _element(driver, angry).is_enabled(), "angry is enabled")
    _click(driver, "angry")
    wait_until(lambda: _name(page) == "angry", "angry is chosen")
    _choose_method(driver, "parts")
    told = (
        "Still using warp: the method parts cannot make a face angry (it can: neutral, happy, sad)"
    )
    wait_until(lambda: _notices(driver).count(told) == 1, "it is told once why parts is not taken")
    wait_until(
        lambda: _element(driver, "#method").get_attribute("value") == "warp", "warp is shown"
    )
    _edits_go_on(page)
    assert _name(page) == "angry"


def _choose_method(driver: Any, method: str) -> None:
    script = (
        "const select = document.getElementById('method');"
        "select.value = arguments[0]; select.dispatchEvent(new Event('change'))"
    )
    driver.execute_script(script, method)


def _method(page: SimpleNamespace) -> tuple[str, dict[str, Any]]:
    state = page.controls.snapshot()
    return state.method, dict(state.options)


def _notices(driver: Any) -> list[str]:
    return [item.text for item in driver.find_elements("css selector", "#notices .notice span")]


def _edits_go_on(page: SimpleNamespace) -> None:
    """Look at ten frames in a row, after an edit had time to come in: each is edited."""
    wait_until(lambda: (live := page.loop.latest()) is not None and live.edited, "it is edited")
    seen: dict[int, bool] = {}

    def has_ten() -> bool:
        if (live := page.loop.latest()) is not None:
            seen[live.seq] = bool(live.edited)
        return len(seen) >= 10

    wait_until(has_ten, "ten frames are there")
    assert all(seen.values())


def test_a_badge_on_the_picture_says_that_it_is_paused(page):
    badge = _element(page.driver, "#badge")
    assert not badge.is_displayed()
    page.controls.update(paused=True)  # by somebody else
    wait_until(badge.is_displayed, "the badge is shown")
    assert badge.text == "Paused: everybody sees the original"
    _keys(page.driver).key_down("b").perform()
    wait_until(lambda: badge.text == "Original", "it says that this page compares")
    _keys(page.driver).key_up("b").perform()
    wait_until(lambda: badge.text.startswith("Paused"), "it is still paused")
    _element(page.driver, "#paused").click()
    wait_until(lambda: not badge.is_displayed(), "the badge is gone")


@pytest.mark.parametrize(
    ("width", "height"), [(1280, 800), (1440, 900), (1280, 620), (1920, 1080), (390, 844)]
)
def test_the_picture_stays_in_sight_while_one_scrolls(page, width, height):
    driver = page.driver
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        driver.execute_script("document.getElementById('mix').open = true")
        for share in (0, 0.5, 1):
            top, bottom, least, whole = driver.execute_script(IN_SIGHT, share)
            assert 0 <= top < bottom <= whole
            assert bottom - top >= least
    finally:
        driver.execute_script("document.getElementById('mix').open = false; scrollTo(0, 0)")
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Where the picture is after scrolling by a share of all there is, and what height it must have.
IN_SIGHT = """
scrollTo(0, arguments[0] * document.documentElement.scrollHeight);
const { top, bottom } = document.getElementById("stage").getBoundingClientRect();
return [top, bottom, 0.25 * innerHeight, innerHeight];
"""


def test_a_number_stands_beside_its_face_and_over_no_face(page):
    for boxes in (
        [[0.1, 0.2, 0.4, 0.8], [0.6, 0.2, 0.9, 0.8]],
        [[0.1, 0.2, 0.49, 0.8], [0.5, 0.2, 0.9, 0.8]],  # side by side
        [[0.5, 0.2, 1.0, 0.8], [0.0, 0.2, 0.49, 0.8]],  # to the edges of the picture
        [[0.0, 0.0, 0.49, 0.8], [0.5, 0.2, 1.0, 1.0]],
    ):
        tags, faces, layer = page.driver.execute_async_script(NUMBERS, boxes)
        for left, top, right, bottom in tags:
            assert layer[0] <= left < right <= layer[2]
            assert layer[1] <= top < bottom <= layer[3]
            assert not any(
                left < face[2] and right > face[0] and top < face[3] and bottom > face[1]
                for face in faces
            )


# The rectangles of numbers and faces that are given as boxes, and of the picture.
NUMBERS = """
const [boxes, done] = arguments;
const token = document.querySelector('meta[name="mien-token"]').content;
import(`/static/${token}/faces.js`).then(({ Faces }) => {
  const faces = new Faces({ state: { face: "all" }, watch() {} });
  faces.show(boxes.map((box, index) => ({ number: 900 + index, box, edited: true })));
  const made = [...document.querySelectorAll(".box")].filter((box) => box.textContent >= 900);
  for (const box of made) box.style.transition = "none";
  const rect = (element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    return [left, top, right, bottom];
  };
  const found = [
    made.map((box) => rect(box.firstChild)), made.map(rect), rect(document.getElementById("faces")),
  ];
  faces.show([]);
  done(found);
});
"""


def test_plots_begin_after_the_first_second(page):
    added = page.driver.execute_async_script(PLOTTED)
    # What came in the first second is in no plot, and of the window with it no percentile is.
    assert added == {
        "start": [[1, 31, None], [2, 32, None], [13, 43, 93]],
        "later": [[1, 31, 81]],
        "resumed": [[0, None, None], [3, 33, None]],
    }


# What is added to the plot of the latency: [second, value, second value], for a loop that starts
# with the page, one that runs already, and one that was idle.
PLOTTED = """
const [done] = arguments;
const token = document.querySelector('meta[name="mien-token"]').content;
const load = (name) => import(`/static/${token}/${name}`);
Promise.all([load("monitor.js"), load("plot.js")]).then(([{ Monitor }, { Plot }]) => {
  const { add } = Plot.prototype;
  const now = performance.now.bind(performance);
  let second = 0;
  const run = (uptime, states) => {
    const found = [];
    const plots = [];
    Plot.prototype.add = function (value, faint = null) {
      if (!plots.includes(this)) plots.push(this);
      if (plots[0] === this) found.push([second, value, faint]);
    };
    const monitor = new Monitor({ hold() {} });
    for (const [at, state] of states) {
      second = at;
      performance.now = () => 1e6 + 1000 * at;
      monitor.show({
        state, uptime_s: uptime + at, output_fps: 30, capture_fps: 30, dropped: 0, dropped_share: 0,
        delay_ms: { median: 30, p95: 80 + at, last: 30 + at }, stages_ms: {}, providers: {},
        outputs: [], notices: [], source: { name: "x", size_wh: [1, 1], rate: 30 },
      });
    }
    return found;
  };
  const running = (...seconds) => seconds.map((at) => [at, "running"]);
  const result = {
    start: run(0, running(0, 0.5, 1, 2, 13)),
    later: run(100, running(0, 0.5, 1)),
    resumed: run(0, [[0, "idle"], [1, "running"], [1.5, "running"], [3, "running"]]),
  };
  performance.now = now;
  Plot.prototype.add = add;
  done(result);
});
"""


def test_there_is_one_notice_for_one_thing(page):
    shown = page.driver.execute_async_script(NOTICES)
    assert shown == [
        ["The camera gives no frames (for 2 s)"],  # held by two, and told once more
        ["The camera gives no frames (for 2 s)", "Last of three"],
        ["sample.mp4 ends"],
    ]


# The notices after lines that say the same, after three that pass, and after one with a name.
NOTICES = """
const [done] = arguments;
const token = document.querySelector('meta[name="mien-token"]').content;
import(`/static/${token}/notices.js`).then(({ Notices }) => {
  const list = document.getElementById("notices");
  const before = [...list.children];
  list.replaceChildren();
  const texts = () => [...list.children].map((item) => item.textContent);
  const notices = new Notices();
  const found = [];
  notices.hold("one", ["the camera gives no frames (for 2 s)"]);
  notices.hold("two", ["the camera gives no frames (for 3 s)"]);
  notices.say("the camera gives no frames (for 4 s)");
  found.push(texts());
  for (const text of ["one of three", "one of three", "two of three", "last of three"]) {
    notices.say(text);
  }
  found.push(texts());
  list.replaceChildren();
  notices.hold("one", ["sample.mp4 ends"]);
  found.push(texts());
  list.replaceChildren(...before);
  done(found);
});
"""


def test_who_has_no_token_reads_where_the_address_is(running):
    driver = running.driver
    for path in ("/", "/?token=of-yesterday"):
        driver.get(f"http://127.0.0.1:{running.server.port}{path}")
        assert _text(driver, "h1") == "This address is not complete"
        assert "in the line that begins with" in _text(driver, "main")
        assert _element(driver, "main").value_of_css_property("max-width") == "560px"
    driver.get("about:blank")
    # The status is an error's, which the browser logs; the policy stops nothing on the page.
    assert not [error for error in _errors(driver) if "401" not in error]


def test_the_page_works_through_a_tunnel_that_begins_at_another_port(page):
    with tunnel(page.server.port) as port:
        page.driver.get(f"http://localhost:{port}/?token={TOKEN}")
        _wait_for_way(page.driver, "WebRTC")  # as it is the same machine
        _click(page.driver, "sad")
        wait_until(lambda: _name(page) == "sad", "sad is chosen")
        page.driver.get("about:blank")


def test_the_page_works_by_the_name_of_the_certificate(tmp_path):
    certificate, key = write_certificate(tmp_path, "desk.example.org")
    name = ("--host-resolver-rules=MAP desk.example.org 127.0.0.1", "--ignore-certificate-errors")
    with (
        chromium(more=name) as driver,
        running_panel(tmp_path, listen="0.0.0.0", certificate=certificate, key=key) as panel,
    ):
        assert panel.server.url.startswith(f"https://desk.example.org:{panel.port}/")
        driver.get(panel.server.url)
        wait_until(lambda: _text(driver, "#link-text").startswith("Live · "), "the picture comes")
        _click(driver, "sad")
        target = panel.loop.controls.snapshot
        wait_until(lambda: target().target is not None, "sad is chosen")
        assert _errors(driver) == []
        driver.get("about:blank")


def test_without_webrtc_the_picture_comes_as_jpegs(page):
    script = "delete window.RTCPeerConnection"
    made = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        page.driver.refresh()
        _wait_for_way(page.driver, "JPEG")
        before = _calm_smile(page, "jpeg")
        _click(page.driver, "happy")
        _wait_for_smile(page, above=before + CLEARLY, at="jpeg")
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)


def test_the_page_comes_back_by_itself_after_the_server_did(running):
    driver = running.driver
    port = running.server.port
    running.server.close()
    try:
        driver.refresh()
    except importlib.import_module("selenium.common").WebDriverException:
        pass  # nobody answers: that is what it says
    with PanelServer(running.loop, _settings(running.folder, port)) as first:
        driver.get(first.url)
        _wait_for_way(driver, "WebRTC")
    wait_until(lambda: _text(driver, "#link-text") == "Reconnecting", "the loss is told")
    assert _element(driver, "#empty").is_displayed()
    with PanelServer(running.loop, _settings(running.folder, port)):
        _wait_for_way(driver, "WebRTC")
        wait_until(lambda: picture(driver, "video") is not None, "the picture is back")
        driver.get("about:blank")


def _strength(page: SimpleNamespace) -> float | None:
    target = page.controls.snapshot().target
    return None if target is None else round(target.strength, 3)


def _name(page: SimpleNamespace) -> str | None:
    target = page.controls.snapshot().target
    return None if target is None else target.name


def _is_marked(rgb: np.ndarray | None) -> bool:
    if rgb is None:
        return False
    stripe = rgb[:, : rgb.shape[1] // 20].reshape(-1, 3).mean(0)
    return bool(np.abs(stripe - MARK).max() < 60)


# The texts whose contrast with what is behind them is less than WCAG's 4.5 to 1.
FAINT = """
const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.99) return colour;
  }
  return [255, 255, 255];
};
const faint = [];
const walker = document.createTreeWalker(document.querySelector("body"), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility() || element.closest(".hidden, .stage")) continue;
  const lights = [light(parse(getComputedStyle(element).color)), light(behind(element))];
  const [dark, bright] = lights.sort((a, b) => a - b);
  const ratio = (bright + 0.05) / (dark + 0.05);
  if (ratio < 4.5) faint.push(`${text}: ${ratio.toFixed(2)}`);
}
return faint.length ? faint.join("; ") : "";
"""
