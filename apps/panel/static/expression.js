// Expressions: buttons, intensity, the own expression, and the mix.

import { face } from "./icons.js";
import { addDetent, percent, show } from "./slider.js";

const INTENSITY_STEP = 0.1; // of the keys + and -
const DETENT = 4; // percent to either side of 100, where the own expression stays as it is
const byId = (id) => document.getElementById(id);

// Why the method in use does not make these expressions.
export function cannot(state, names) {
  return `${capital(state.method)} cannot make a face ${listed(names, "or")}`;
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}

// Words in a row: `a, b or c`.
function listed(words, last) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}` : words.join();
}

export class Expression {
  #settings;
  #say;
  #emotions = [];
  #buttons = new Map();
  #sliders = new Map();
  #max = 1.5;

  // say: shows a line to people.
  constructor(settings, say) {
    this.#settings = settings;
    this.#say = say;
    byId("intensity").addEventListener("input", (event) => {
      this.setIntensity(event.target.value / 100);
    });
    addDetent(byId("own"), 100, DETENT);
    byId("own").addEventListener("input", (event) => {
      settings.set({ own: event.target.value / 100 });
    });
    settings.watch((state) => this.#show(state));
  }

  // hello: the server's first message.
  begin(hello) {
    this.#max = hello.max_intensity;
    byId("intensity").max = Math.round(100 * hello.max_intensity);
    if (this.#emotions.join() === hello.emotions.join()) return;
    this.#emotions = hello.emotions;
    const keys = Object.fromEntries(Object.entries(hello.hotkeys).map(([key, what]) => [what, key]));
    const names = ["none", ...hello.emotions];
    this.#buttons = new Map(names.map((name) => [name, this.#button(name, keys[name])]));
    byId("emotions").replaceChildren(...this.#buttons.values());
    this.#sliders = new Map(hello.emotions.map((name) => [name, this.#slider(name)]));
    byId("sliders").replaceChildren(...[...this.#sliders.values()].map((slider) => slider.row));
  }

  // One expression alone, or `none`.
  choose(name) {
    if (!this.#can(name)) {
      this.#say(cannot(this.#settings.state, [name]));
      return;
    }
    const target = Object.fromEntries(this.#emotions.map((each) => [each, each === name ? 1 : 0]));
    this.#settings.set({ target });
  }

  setIntensity(intensity) {
    this.#settings.set({ intensity: Math.min(this.#max, Math.max(0, Math.round(100 * intensity) / 100)) });
  }

  stepIntensity(direction) {
    this.setIntensity(this.#settings.state.intensity + direction * INTENSITY_STEP);
  }

  // Whether the method in use can make the expression.
  #can(name) {
    return name === "none" || this.#settings.state.emotions.includes(name);
  }

  // One expression's weight in the mix; where all would be more than a whole, the others give way.
  #setWeight(name, weight) {
    const target = { ...this.#settings.state.target, [name]: weight };
    const others = this.#emotions.filter((each) => each !== name);
    const taken = others.reduce((sum, each) => sum + target[each], 0);
    const scale = taken > 1 - weight ? (1 - weight) / taken : 1;
    for (const each of others) target[each] = Math.floor(1000 * target[each] * scale) / 1000;
    this.#settings.set({ target });
  }

  #button(name, key) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "emotion";
    button.dataset.emotion = name;
    const label = document.createElement("span");
    label.textContent = name;
    button.append(face(name), label);
    if (key) {
      const hint = document.createElement("kbd");
      hint.textContent = key;
      hint.setAttribute("aria-hidden", "true");
      button.setAttribute("aria-keyshortcuts", key);
      button.append(hint);
    }
    button.addEventListener("click", () => this.choose(name));
    return button;
  }

  #slider(name) {
    const row = document.createElement("div");
    row.className = "slider";
    const label = document.createElement("label");
    label.textContent = name;
    label.htmlFor = `mix-${name}`;
    const output = document.createElement("output");
    output.htmlFor = `mix-${name}`;
    const input = document.createElement("input");
    Object.assign(input, { type: "range", id: `mix-${name}`, min: 0, max: 100, step: 1 });
    input.addEventListener("input", () => this.#setWeight(name, input.value / 100));
    row.append(label, output, input);
    return { row, input, output };
  }

  #show(state) {
    const parts = this.#emotions.filter((name) => state.target[name] > 0.004);
    for (const [name, button] of this.#buttons) {
      const weight = name === "none" ? Number(!parts.length) : state.target[name];
      button.setAttribute("aria-pressed", weight > 0.004 ? "true" : "false");
      button.style.setProperty("--weight", weight);
      button.classList.toggle("part", weight > 0.004 && weight < 0.996);
      button.disabled = !this.#can(name);
      button.title = this.#can(name) ? "" : cannot(state, [name]);
    }
    for (const [name, { row, input, output }] of this.#sliders) {
      show(input, output, state.target[name]);
      input.disabled = !this.#can(name);
      row.classList.toggle("off", input.disabled);
    }
    const able = this.#emotions.filter((name) => this.#can(name));
    byId("emotions-note").hidden = able.length === this.#emotions.length;
    byId("emotions-note").textContent = `${capital(state.method)} can make ${listed(able, "and")} only.`;
    show(byId("intensity"), byId("intensity-value"), state.intensity);
    show(byId("own"), byId("own-value"), state.own);
    byId("own").disabled = !state.scales_own;
    byId("own-row").classList.toggle("off", !state.scales_own);
    byId("own-note").hidden = state.scales_own;
    byId("own-note").textContent = `${capital(state.method)} cannot soften or amplify it; Warp can.`;
    byId("mix-text").textContent = parts.length > 1 || (parts.length && state.target[parts[0]] < 0.996)
      ? parts.map((name) => `${name} ${percent(state.target[name])}`).join(", ")
      : "";
    const rest = 1 - parts.reduce((sum, name) => sum + state.target[name], 0);
    byId("mix-rest").textContent = parts.length && rest > 0.004 ? `${percent(rest)} stays as it is` : "";
  }
}
