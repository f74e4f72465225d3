// The faces in view as buttons over the picture.

const TAG = { width: 26, height: 22, gap: 4 }; // a number's, in pixels, as in panel.css

export class Faces {
  #layer = document.getElementById("faces");
  #settings;
  #buttons = new Map(); // by number
  #edited = new Map();
  #boxes = new Map(); // by number, as shares of the picture

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
    this.#boxes = new Map(faces.map((face) => [face.number, face.box]));
    for (const { number, box } of faces) {
      const [left, top, right, bottom] = box.map((place) => 100 * place);
      const button = this.#button(number);
      const style = button.style;
      style.left = `${left}%`;
      style.top = `${top}%`;
      style.width = `${right - left}%`;
      style.height = `${bottom - top}%`;
      button.dataset.side = this.#side(number, button.dataset.side);
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

  // Where there is room for a face's number, in the picture and over no face; where it is now, if
  // it can stay there.
  #side(number, now) {
    const { clientWidth: width, clientHeight: height } = this.#layer;
    const inPixels = (box) => box.map((place, index) => place * (index % 2 ? height : width));
    const [left, top, right, bottom] = inPixels(this.#boxes.get(number));
    const middle = (left + right - TAG.width) / 2;
    const places = {
      right: [right + TAG.gap, top],
      left: [left - TAG.gap - TAG.width, top],
      above: [middle, top - TAG.gap - TAG.height],
      below: [middle, bottom + TAG.gap],
    };
    const faces = [...this.#boxes.values()].map(inPixels);
    const isFree = (side) => {
      const [x, y] = places[side];
      const isInside = x >= 0 && y >= 0 && x + TAG.width <= width && y + TAG.height <= height;
      return isInside && !faces.some(([x0, y0, x1, y1]) =>
        x < x1 && x + TAG.width > x0 && y < y1 && y + TAG.height > y0);
    };
    return [now, ...Object.keys(places)].find((side) => side && isFree(side)) ?? "above";
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
    const { face: chosen, paused } = this.#settings.state ?? {};
    for (const [number, button] of this.#buttons) {
      const edited = this.#edited.get(number) && !paused;
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
