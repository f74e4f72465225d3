// The faces in view as buttons over the picture.

export class Faces {
  #layer = document.getElementById("faces");
  #settings;
  #buttons = new Map(); // by number
  #edited = new Map();

  constructor(settings) {
    this.#settings = settings;
    settings.watch(() => this.#label());
  }

  // faces: [{number, box: [left, top, right, bottom] in 0..1, edited}]
  show(faces) {
    const seen = new Set(faces.map((face) => face.number));
    for (const [number, button] of this.#buttons) {
      if (seen.has(number)) continue;
      button.remove();
      this.#buttons.delete(number);
    }
    this.#edited = new Map(faces.map((face) => [face.number, face.edited]));
    for (const { number, box } of faces) {
      const [left, top, right, bottom] = box.map((place) => 100 * place);
      const style = this.#button(number).style;
      style.left = `${left}%`;
      style.top = `${top}%`;
      style.width = `${right - left}%`;
      style.height = `${bottom - top}%`;
    }
    this.#layer.classList.toggle("several", faces.length > 1);
    this.#label();
  }

  // Where the picture is within the stage, in pixels.
  place({ left, top, width, height }) {
    Object.assign(this.#layer.style, {
      left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`,
    });
  }

  #button(number) {
    if (this.#buttons.has(number)) return this.#buttons.get(number);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "box";
    const tag = document.createElement("span");
    tag.textContent = number;
    button.append(tag);
    button.addEventListener("click", () => {
      const chosen = this.#settings.state?.face === number;
      this.#settings.set({ face: chosen ? "all" : number });
    });
    this.#buttons.set(number, button);
    this.#layer.append(button);
    return button;
  }

  #label() {
    const chosen = this.#settings.state?.face;
    for (const [number, button] of this.#buttons) {
      const edited = this.#edited.get(number);
      button.classList.toggle("edited", Boolean(edited));
      button.setAttribute("aria-pressed", chosen === number ? "true" : "false");
      const text = chosen === number
        ? `Face ${number}, the only one edited. Edit all faces`
        : `Face ${number}${edited ? ", edited" : ""}. Edit only this face`;
      if (button.title !== text) {
        button.title = text;
        button.setAttribute("aria-label", text);
      }
    }
  }
}
