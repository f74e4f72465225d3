// The panel: what the server says goes to the parts, what people do goes to the server.

import { Choices } from "./choices.js";
import { Expression } from "./expression.js";
import { Faces } from "./faces.js";
import { Hotkeys } from "./hotkeys.js";
import { Link } from "./link.js";
import { Monitor } from "./monitor.js";
import { Notices } from "./notices.js";
import { Picture } from "./picture.js";
import { Presets } from "./presets.js";
import { Settings } from "./settings.js";

const byId = (id) => document.getElementById(id);
const send = (message) => link.send(message);

const notices = new Notices();
const settings = new Settings(send);
const expression = new Expression(settings, (text) => notices.say(text));
const choices = new Choices(settings);
const presets = new Presets(settings, send, notices);
const faces = new Faces(settings);
const monitor = new Monitor(notices);
const picture = new Picture({
  way: showLink,
  place: (box) => faces.place(box),
  error: (text) => notices.say(text, { kind: "error" }),
  camera: showCamera,
  compared: showBadge,
});
const hotkeys = new Hotkeys({
  emotion: (name) => expression.choose(name),
  intensity: (direction) => expression.stepIntensity(direction),
  compare,
});

let linkState = ["waiting", "Connecting"];
let running = null;
let isBypassed = false; // whether frames leave unedited because the filter fails

const HANDLERS = {
  hello(message) {
    expression.begin(message);
    choices.begin(message);
    hotkeys.begin(message);
    settings.receive(message.state, { all: true });
    presets.show(message.presets);
    picture.start();
  },
  state: (message) => settings.receive(message),
  presets: (message) => presets.show(message.presets),
  faces(message) {
    faces.show(message.faces);
    choices.showFaces(message.faces.map((face) => face.number));
  },
  stats(message) {
    monitor.show(message);
    picture.watch(message);
    isBypassed = message.bypassed;
    showBadge();
    if (running !== message.state) {
      running = message.state;
      showLink();
    }
  },
  error: (message) => notices.say(message.text, { kind: "error" }),
};

const link = new Link({
  message: ({ type, ...message }) => HANDLERS[type]?.(message),
  state(state, text) {
    if (state !== "open" && linkState[0] === "open") {
      picture.stop();
      faces.show([]);
      monitor.clear();
    }
    linkState = [state, text];
    byId("steer").inert = state !== "open";
    notices.hold("link", state === "refused" ? [text] : []);
    showLink();
  },
});

function showLink() {
  const [state, text] = linkState;
  const isOpen = state === "open";
  byId("link").dataset.state = state;
  const words = running && running !== "running" ? running : "Live";
  byId("link-text").textContent = isOpen
    ? `${words[0].toUpperCase()}${words.slice(1)}${picture.way ? ` · ${picture.way}` : ""}`
    : state === "refused" ? "Refused" : text;
  byId("empty").textContent = isOpen ? "Waiting for the picture" : "No connection to mien";
}

// What is not the edit is marked on the picture.
function showBadge() {
  const [words, kind] = picture.isComparing ? ["Original", ""]
    : settings.state?.paused ? ["Paused: everybody sees the original", "alert paused"]
    : isBypassed ? ["Not edited", "alert"]
    : ["", ""];
  const badge = byId("badge");
  if (badge.textContent !== words) badge.textContent = words;
  badge.className = `badge ${kind}`;
  badge.hidden = !words;
}

function compare(isOn) {
  byId("compare").setAttribute("aria-pressed", isOn ? "true" : "false");
  picture.compare(isOn);
}

function showCamera(isUsed) {
  const button = byId("browser-camera");
  button.setAttribute("aria-pressed", isUsed ? "true" : "false");
  button.textContent = isUsed ? "Stop this browser's camera" : "Use this browser's camera";
}

// The original is shown as long as the button is held, or the picture beside its faces.
for (const held of [byId("compare"), byId("stage")]) {
  held.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest(".box")) return;
    held.setPointerCapture(event.pointerId);
    compare(true);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    held.addEventListener(end, () => compare(false));
  }
  held.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press
}
byId("compare").addEventListener("blur", () => compare(false));
byId("compare").addEventListener("keydown", (event) => {
  if (event.key === " " || event.key === "Enter") compare(true);
});
byId("compare").addEventListener("keyup", (event) => {
  if (event.key === " " || event.key === "Enter") compare(false);
});

byId("browser-camera").addEventListener("click", async (event) => {
  event.target.disabled = true;
  await picture.useCamera(!picture.hasCamera);
  event.target.disabled = false;
  event.target.focus();
});
settings.watch((state) => {
  showBadge();
  const another = state.browser_camera && !picture.hasCamera;
  notices.hold("camera", another ? ["Another page or program sends the picture"] : [], "note");
});
