// Keys that work wherever the focus is, except where text is typed.

const byId = (id) => document.getElementById(id);
const WORDS = { none: "no expression", "before/after": "hold to see the original" };

export class Hotkeys {
  #actions;
  #keys = {};
  #held = null;

  // actions: {emotion(name), compare(whether), intensity(direction)}
  constructor(actions) {
    this.#actions = actions;
    document.addEventListener("keydown", (event) => this.#down(event));
    document.addEventListener("keyup", (event) => this.#up(event));
    window.addEventListener("blur", () => this.#release());
    byId("help-open").addEventListener("click", () => byId("help").showModal());
  }

  begin(hello) {
    this.#keys = hello.hotkeys;
    byId("keys").replaceChildren(...Object.entries(hello.hotkeys).flatMap(([key, what]) => {
      const term = document.createElement("dt");
      const name = document.createElement("kbd");
      name.textContent = key.toUpperCase();
      term.append(name);
      const does = document.createElement("dd");
      does.textContent = WORDS[what] ?? what;
      return [term, does];
    }));
  }

  #down(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
    if (event.target.closest?.("input[type=text], textarea, select")) return;
    const key = event.key === "=" ? "+" : event.key.toLowerCase();
    const what = this.#keys[key];
    if (!what) return;
    event.preventDefault();
    if (what === "before/after") {
      this.#held = event.code;
      this.#actions.compare(true);
    } else if (what === "help") byId("help").showModal();
    else if (what === "more intensity") this.#actions.intensity(1);
    else if (what === "less intensity") this.#actions.intensity(-1);
    else if (!event.repeat) this.#actions.emotion(what);
  }

  #up(event) {
    if (event.code === this.#held) this.#release();
  }

  #release() {
    if (this.#held === null) return;
    this.#held = null;
    this.#actions.compare(false);
  }
}
