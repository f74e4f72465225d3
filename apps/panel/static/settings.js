// How everything is set: what the server said last, and what was changed here since.

const SEND_EVERY_MS = 50; // while a slider moves
const OWN_MS = 700; // this long, what was set here is not overwritten by what the server says

export class Settings {
  #send;
  #watchers = [];
  #changed = new Map(); // name -> when it was changed here
  #pending = {};
  #timer = 0;
  #last = null;

  state = null;

  // send: takes a message, gives whether it could be sent.
  constructor(send) {
    this.#send = send;
  }

  // watcher: called with the state now and after each change of it.
  watch(watcher) {
    this.#watchers.push(watcher);
    if (this.state) watcher(this.state);
  }

  // The server's word; all: also over what was changed here a moment ago.
  receive(state, { all = false } = {}) {
    this.#last = state;
    if (all) {
      this.#changed.clear();
      this.#pending = {};
    }
    this.#settle();
  }

  // Sets something, here at once and on the server soon.
  set(changes) {
    if (!this.state) return;
    const now = performance.now();
    for (const name of Object.keys(changes)) this.#changed.set(name, now);
    this.state = { ...this.state, ...changes };
    Object.assign(this.#pending, changes);
    if (!this.#timer) this.#flush();
    this.#tell();
  }

  #flush() {
    const changes = this.#pending;
    this.#pending = {};
    this.#timer = 0;
    if (!Object.keys(changes).length) return;
    this.#send({ type: "set", ...changes });
    this.#timer = setTimeout(() => this.#flush(), SEND_EVERY_MS);
    setTimeout(() => this.#settle(), OWN_MS + 20);
  }

  #settle() {
    if (!this.#last) return;
    const state = { ...this.#last };
    const now = performance.now();
    for (const [name, when] of this.#changed) {
      if (now - when < OWN_MS) state[name] = this.state[name];
      else this.#changed.delete(name);
    }
    if (JSON.stringify(state) === JSON.stringify(this.state)) return;
    this.state = state;
    this.#tell();
  }

  #tell() {
    for (const watcher of this.#watchers) watcher(this.state);
  }
}
