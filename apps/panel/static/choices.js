// Which faces are edited, by which method, and whether the watermark is drawn.

const byId = (id) => document.getElementById(id);
const FACES = { all: "All", largest: "Largest" };

export class Choices {
  #settings;
  #options = {}; // what each method can be told
  #numbers = [];

  constructor(settings) {
    this.#settings = settings;
    byId("method").addEventListener("change", (event) => {
      settings.set({ method: event.target.value, options: {} });
    });
    for (const name of ["mark", "paused"]) {
      byId(name).addEventListener("change", (event) => settings.set({ [name]: event.target.checked }));
    }
    byId("prompt").addEventListener("change", (event) => settings.set({ prompt: event.target.value.trim() }));
    settings.watch((state) => this.#show(state));
  }

  begin(hello) {
    this.#options = hello.method_options;
    const text = (name) => `${name[0].toUpperCase()}${name.slice(1)} – ${hello.method_help[name]}`;
    byId("method").replaceChildren(
      ...Object.keys(hello.methods).map((name) => new Option(text(name), name)),
    );
  }

  // numbers: of the faces in view.
  showFaces(numbers) {
    if (numbers.join() === this.#numbers.join()) return;
    this.#numbers = numbers;
    if (this.#settings.state) this.#show(this.#settings.state);
  }

  #showOptions(state) {
    const options = this.#options[state.method] ?? [];
    const place = byId("method-options");
    const made = options.map((option) => option.name).join();
    if (place.dataset.made !== made) {
      place.replaceChildren(...options.map(optionField));
      place.dataset.made = made;
    }
    for (const option of options) {
      const told = state.options[option.name] ?? option.default;
      const choose = (value) => {
        this.#settings.set({ options: { ...state.options, [option.name]: value } });
      };
      if (option.values.length) {
        segments(option.name, option.values.map((value) => [value, value]), told, choose);
        continue;
      }
      const input = byId(`option-${option.name}`);
      if (document.activeElement !== input) input.value = told ?? "";
      input.onchange = () => choose(option.bounds ? input.valueAsNumber : input.value);
    }
  }

  #show(state) {
    byId("mark").checked = state.mark;
    byId("paused").checked = state.paused;
    byId("method").value = state.method;
    byId("prompt-row").hidden = !state.takes_prompt;
    const prompt = byId("prompt");
    if (document.activeElement !== prompt) prompt.value = state.prompt;
    this.#showOptions(state);
    const numbers = new Set(this.#numbers);
    if (typeof state.face === "number") numbers.add(state.face); // also while it is not in view
    const faces = [...Object.keys(FACES), ...[...numbers].sort((a, b) => a - b)];
    segments("face", faces.map((face) => [face, FACES[face] ?? String(face)]), state.face, (face) => {
      this.#settings.set({ face });
    });
  }
}

// What a method can be told: words side by side, a number or a text.
function optionField(option) {
  const field = document.createElement(option.values.length ? "fieldset" : "div");
  field.title = option.help;
  if (option.values.length) {
    field.className = "choice";
    const legend = document.createElement("legend");
    legend.textContent = capital(option.name);
    const group = document.createElement("div");
    Object.assign(group, { className: "segments", id: `${option.name}-choice` });
    field.append(legend, group);
    return field;
  }
  field.className = "row";
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(label, { textContent: capital(option.name), htmlFor: `option-${option.name}` });
  Object.assign(input, { id: `option-${option.name}`, type: option.bounds ? "number" : "text", maxLength: 200 });
  if (option.bounds) Object.assign(input, { min: option.bounds[0], max: option.bounds[1], step: "any" });
  field.append(label, input);
  return field;
}

const capital = (name) => name[0].toUpperCase() + name.slice(1);

// Radio buttons side by side; built again only where they are others, so that the focus stays.
function segments(name, choices, chosen, choose) {
  const group = byId(`${name}-choice`);
  const made = choices.map(([value]) => String(value)).join();
  if (group.dataset.made !== made) {
    const focused = group.contains(document.activeElement) ? document.activeElement.value : null;
    group.replaceChildren(...choices.map(([value, text]) => segment(name, value, text)));
    group.dataset.made = made;
    [...group.querySelectorAll("input")].find((input) => input.value === focused)?.focus();
  }
  [...group.querySelectorAll("input")].forEach((input, place) => {
    input.checked = choices[place][0] === chosen;
    input.onchange = () => choose(choices[place][0]);
  });
}

function segment(name, value, text) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name, value: String(value) });
  const words = document.createElement("span");
  words.textContent = text;
  label.append(input, words);
  return label;
}
