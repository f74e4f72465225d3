// How it runs: delay, frame rate, what runs where.

import { Plot } from "./plot.js";

const byId = (id) => document.getElementById(id);

export class Monitor {
  #delay = new Plot(byId("delay-plot"), { least: 40 });
  #rate = new Plot(byId("rate-plot"), { least: 30 });
  #notices;

  constructor(notices) {
    this.#notices = notices;
  }

  // stats: the server's message.
  show(stats) {
    const { median, p95, last } = stats.delay_ms;
    const isRunning = stats.state === "running";
    byId("delay").textContent = median === null ? "–" : String(Math.round(median));
    byId("delay-note").textContent = p95 === null
      ? "camera to output"
      : `to output; 95\u00a0% within ${Math.round(p95)}\u00a0ms`;
    byId("rate").textContent = isRunning ? stats.output_fps.toFixed(1) : "–";
    byId("rate-note").textContent = `of ${stats.capture_fps.toFixed(1)} captured; ${dropped(stats)}`;
    this.#delay.add(isRunning ? last : null, isRunning ? p95 : null);
    this.#rate.add(isRunning ? stats.output_fps : null, isRunning ? stats.capture_fps : null);
    byId("delay-plot").setAttribute("aria-label", `Delay over the last minute, now ${byId("delay").textContent} ms`);
    byId("rate-plot").setAttribute("aria-label", `Frame rate over the last minute, now ${byId("rate").textContent} a second`);
    const { name, size_wh: [width, height], rate } = stats.source;
    const facts = [name, `${width} × ${height}`, rate && `${Math.round(100 * rate) / 100} fps`];
    byId("source").textContent = facts.filter(Boolean).join(" · ");
    listFacts("providers", Object.entries(stats.providers));
    listFacts("outputs", stats.outputs.map((output) => [output.name, output.message ?? `${output.shown} frames`]));
    this.#notices.hold("messages", stats.messages);
    this.#notices.hold("adaptations", stats.adaptations);
  }

  // Without a server nothing is known.
  clear() {
    byId("delay").textContent = byId("rate").textContent = "–";
    this.#delay.add(null);
    this.#rate.add(null);
    for (const sender of ["messages", "adaptations"]) this.#notices.hold(sender, []);
  }
}

function dropped(stats) {
  if (!stats.dropped) return "none dropped";
  return `${(100 * stats.dropped_share).toFixed(1)}\u00a0% dropped`;
}

// Pairs as a list of terms, only where they changed, so that a selection of the text stays.
function listFacts(id, pairs) {
  const list = byId(id);
  const made = JSON.stringify(pairs);
  if (list.dataset.made === made) return;
  list.dataset.made = made;
  list.replaceChildren(...pairs.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value;
    return [term, fact];
  }));
}
