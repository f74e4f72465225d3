// What people should know: lines that stay as long as they hold, and one line that passes.

const PASSING_MS = 8000;
const REWRITTEN_MS = 10_000;

export class Notices {
  #list = document.getElementById("notices");
  #standing = new Map();

  // A line that passes, in the place of the one before; action: the label of a button in it, act:
  // what that does.
  say(text, { kind = "note", action = null, act = null } = {}) {
    const item = this.#item(text, kind);
    if (action) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "plain", textContent: action });
      button.addEventListener("click", () => {
        act();
        item.remove();
      });
      item.append(button);
    }
    for (const other of this.#list.querySelectorAll(".passing")) other.remove();
    if (this.#stands(keyOf(text))) return;
    item.classList.add("passing");
    this.#list.append(item);
    setTimeout(() => item.remove(), PASSING_MS);
  }

  // The lines of one sender that hold now; those it gave before and not now are gone. A line of
  // which only the numbers change is read out once, and written again now and then.
  hold(sender, texts, kind = "warning") {
    const before = this.#standing.get(sender) ?? new Map();
    const now = new Map();
    const at = performance.now();
    for (const text of texts) {
      const key = keyOf(text);
      if (now.has(key) || this.#stands(key, sender)) continue;
      const line = before.get(key) ?? { item: this.#item(text, kind), at };
      if (!before.has(key)) this.#list.append(line.item);
      else if (at - line.at > REWRITTEN_MS && line.item.firstChild.textContent !== sentence(text)) {
        line.item.firstChild.textContent = sentence(text);
        line.at = at;
      }
      now.set(key, line);
    }
    for (const [key, { item }] of before) if (!now.has(key)) item.remove();
    this.#standing.set(sender, now);
  }

  // Whether a line stands already; but: not counting what that sender holds.
  #stands(key, but = null) {
    return [...this.#standing].some(([sender, lines]) => sender !== but && lines.has(key));
  }

  #item(text, kind) {
    const item = document.createElement("li");
    item.className = `notice ${kind}`;
    const words = document.createElement("span");
    words.textContent = sentence(text);
    item.append(words);
    return item;
  }
}

// What is the same in lines of which only the numbers change.
function keyOf(text) {
  return text.replace(/[\d.]+/g, "#");
}

// With a capital letter at its beginning, unless that is a name such as `sample.mp4`.
function sentence(text) {
  return /^[a-z]+[ ,']/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}
