// Which faces are edited, by which method, and whether the mark is drawn.

const byId = (id) => document.getElementById(id);
const METHODS = {
  warp: "Warp – moves the face's own pixels",
  parts: "Parts – experimental: eyes, nose, mouth",
  face: "Face – experimental: the whole face",
  image: "Image – experimental: face and around it",
};
const BLENDS = { field: "Change only", paste: "Paste" };
const FACES = { all: "All", largest: "Largest" };

export class Choices {
  #settings;
  #methods = {};
  #blends = {};
  #numbers = [];

  constructor(settings) {
    this.#settings = settings;
    byId("method").addEventListener("change", (event) => {
      const method = event.target.value;
      const gans = this.#methods[method];
      settings.set(gans.length ? { method, gan: gans[0] } : { method });
    });
    for (const name of ["mark", "paused"]) {
      byId(name).addEventListener("change", (event) => settings.set({ [name]: event.target.checked }));
    }
    settings.watch((state) => this.#show(state));
  }

  begin(hello) {
    this.#methods = hello.methods;
    this.#blends = hello.blends;
    byId("method").replaceChildren(
      ...Object.keys(hello.methods).map((name) => new Option(METHODS[name] ?? name, name)),
    );
  }

  // numbers: of the faces in view.
  showFaces(numbers) {
    if (numbers.join() === this.#numbers.join()) return;
    this.#numbers = numbers;
    if (this.#settings.state) this.#show(this.#settings.state);
  }

  #show(state) {
    byId("mark").checked = state.mark;
    byId("paused").checked = state.paused;
    byId("method").value = state.method;
    const gans = this.#methods[state.method] ?? [];
    byId("gans").hidden = gans.length < 2;
    segments("gan", gans.map((gan) => [gan, gan]), state.gan ?? gans[0], (gan) => {
      this.#settings.set({ method: state.method, gan });
    });
    const blends = this.#blends[state.method] ?? [];
    byId("blends").hidden = blends.length < 2;
    segments("blend", blends.map((blend) => [blend, BLENDS[blend] ?? blend]), state.blend ?? blends[0], (blend) => {
      this.#settings.set({ blend });
    });
    const numbers = new Set(this.#numbers);
    if (typeof state.face === "number") numbers.add(state.face); // also while it is not in view
    const faces = [...Object.keys(FACES), ...[...numbers].sort((a, b) => a - b)];
    segments("face", faces.map((face) => [face, FACES[face] ?? String(face)]), state.face, (face) => {
      this.#settings.set({ face });
    });
  }
}

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
