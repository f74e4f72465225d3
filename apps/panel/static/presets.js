// Expressions saved by name.

const byId = (id) => document.getElementById(id);

export class Presets {
  #settings;
  #send;
  #notices;
  #presets = [];

  constructor(settings, send, notices) {
    this.#settings = settings;
    this.#send = send;
    this.#notices = notices;
    byId("save").addEventListener("submit", (event) => this.#save(event));
    settings.watch(() => this.#mark());
  }

  show(presets) {
    this.#presets = presets;
    byId("presets").replaceChildren(...presets.map((preset) => this.#item(preset)));
    byId("no-presets").hidden = presets.length > 0;
    this.#mark();
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
    [...byId("presets").children].forEach((item, place) => {
      const is = same(this.#presets[place], state);
      item.firstChild.setAttribute("aria-pressed", is ? "true" : "false");
    });
  }
}

function same(preset, state) {
  const names = new Set([...Object.keys(preset.target), ...Object.keys(state.target)]);
  return Math.abs(preset.intensity - state.intensity) < 0.005
    && [...names].every((name) => Math.abs((preset.target[name] ?? 0) - (state.target[name] ?? 0)) < 0.005);
}
