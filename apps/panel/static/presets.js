// Expressions saved by name.

import { cannot } from "./expression.js";

const byId = (id) => document.getElementById(id);

export class Presets {
  #settings;
  #send;
  #notices;
  #presets = [];
  #items = new Map(); // by name: {made, item}
  #isDrawing = false;

  constructor(settings, send, notices) {
    this.#settings = settings;
    this.#send = send;
    this.#notices = notices;
    byId("save").addEventListener("submit", (event) => this.#save(event));
    settings.watch(() => this.#draw());
  }

  show(presets) {
    this.#presets = presets;
    this.#draw();
  }

  // Draws once for all that came since the last picture of the page.
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#list();
      this.#mark();
    });
  }

  // Makes items only for presets that are new or others than before.
  #list() {
    const list = byId("presets");
    const items = new Map();
    for (const preset of this.#presets) {
      const made = JSON.stringify(preset);
      const before = this.#items.get(preset.name);
      items.set(preset.name, before?.made === made ? before : { made, item: this.#item(preset) });
    }
    this.#items = items;
    const wanted = [...items.values()].map(({ item }) => item);
    if (wanted.length !== list.children.length || wanted.some((item, place) => item !== list.children[place])) {
      list.replaceChildren(...wanted);
    }
    byId("no-presets").hidden = wanted.length > 0;
  }

  #save(event) {
    event.preventDefault();
    const input = byId("preset-name");
    const name = input.value.trim();
    const { target, intensity } = this.#settings.state ?? {};
    if (!name || !target) return;
    if (this.#send({ type: "preset_save", name, target, intensity })) input.value = "";
  }

  #item(preset) {
    const item = document.createElement("li");
    const apply = document.createElement("button");
    Object.assign(apply, { type: "button", className: "apply", textContent: preset.name });
    apply.addEventListener("click", () => {
      this.#settings.set({ target: preset.target, intensity: preset.intensity });
    });
    const remove = document.createElement("button");
    Object.assign(remove, { type: "button", className: "remove", textContent: "×" });
    remove.setAttribute("aria-label", `Delete ${preset.name}`);
    remove.title = "Delete";
    remove.addEventListener("click", () => this.#remove(preset));
    item.append(apply, remove);
    return item;
  }

  #remove(preset) {
    if (!this.#send({ type: "preset_delete", name: preset.name })) return;
    byId("preset-name").focus(); // the button that had it is gone
    this.#notices.say(`Deleted ${preset.name}`, {
      action: "Undo",
      act: () => this.#send({ type: "preset_save", ...preset }),
    });
  }

  #mark() {
    const state = this.#settings.state;
    if (!state) return;
    for (const preset of this.#presets) {
      const pressed = same(preset, state) ? "true" : "false";
      const button = this.#items.get(preset.name).item.firstChild;
      const missing = Object.keys(preset.target)
        .filter((name) => preset.target[name] > 0 && !state.emotions.includes(name));
      button.disabled = missing.length > 0;
      button.title = missing.length ? cannot(state, missing) : "";
      if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
    }
  }
}

function same(preset, state) {
  if (Math.abs(preset.intensity - state.intensity) >= 0.005) return false;
  for (const name in state.target) {
    if (Math.abs((preset.target[name] ?? 0) - state.target[name]) >= 0.005) return false;
  }
  return true;
}
