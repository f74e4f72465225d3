// The WebSocket to the server. It comes back by itself, ever more slowly, when the server went away.

import { address, refusal } from "./server.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SILENCE_MS = 15_000; // stats come twice a second; a line that is silent this long is dead

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
    this.#socket = socket;
    this.#listen();
    socket.addEventListener("message", (event) => {
      this.#listen();
      const message = JSON.parse(event.data);
      if (message.type === "hello") {
        this.#wait = FIRST_WAIT_MS;
        this.#handlers.state("open", "Connected");
      }
      this.#handlers.message(message);
    });
    socket.addEventListener("close", () => this.#lost(socket));
  }

  #listen() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => {
      socket.close();
      this.#lost(socket); // a dead line takes long to say that it is closed
    }, SILENCE_MS);
  }

  async #lost(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#silence);
    const wait = this.#wait * (0.8 + 0.4 * Math.random());
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#handlers.state("waiting", "Reconnecting");
    const reason = await refusal();
    if (reason && !this.#socket) this.#handlers.state("refused", reason);
  }
}
