// The WebSocket to the server. It comes back by itself, ever more slowly, when the server went away.

import { address, refusal } from "./server.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 15_000; // stats come twice a second; a line that is silent this long is dead
const ALIVE_MS = 10_000; // where places are short, the page that was silent longest loses its own
const CROWDED = 1013; // the code of a line that was closed because there are too many pages
const CROWDED_WAIT_MS = 30_000;

export class Link {
  #handlers;
  #socket = null;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #silence = 0;

  // handlers: {message(object), state("open" | "waiting" | "refused", text)}
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#timer) this.#connect();
    });
    window.addEventListener("online", () => this.#timer && this.#connect());
    setInterval(() => this.send({ type: "ping" }), ALIVE_MS);
    this.#connect();
  }

  // Whether the message could be sent.
  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const socket = new WebSocket(address("/ws").replace(/^http/, "ws"));
    let wasGreeted = false; // a page that was not knocks again soon
    this.#socket = socket;
    this.#listen();
    socket.addEventListener("message", (event) => {
      this.#listen();
      const message = JSON.parse(event.data);
      if (message.type === "hello") {
        this.#wait = FIRST_WAIT_MS;
        wasGreeted = true;
        this.#handlers.state("open", "Connected");
        this.send({ type: "ping" });
      }
      this.#handlers.message(message);
    });
    socket.addEventListener("close", (event) => {
      this.#lost(socket, wasGreeted && event.code === CROWDED);
    });
  }

  #listen() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => {
      socket.close();
      this.#lost(socket); // a dead line takes long to say that it is closed
    }, SILENCE_MS);
  }

  async #lost(socket, isCrowded = false) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#silence);
    const wait = (isCrowded ? CROWDED_WAIT_MS : this.#wait) * (0.8 + 0.4 * Math.random());
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#handlers.state("waiting", isCrowded ? "Too many pages are open" : "Reconnecting");
    if (isCrowded) return;
    const reason = await refusal();
    if (reason && !this.#socket) this.#handlers.state("refused", reason);
  }
}
