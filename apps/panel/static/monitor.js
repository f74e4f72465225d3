// How it runs: latency, frame rate, what runs where.

import { Plot } from "./plot.js";

const SETTLE_MS = 1000; // what begins is slow; it says nothing about how it runs
const WINDOW_MS = 10_000; // of the server's percentiles
const SMOOTH = 0.8; // of the times of the stages, from one message to the next

const byId = (id) => document.getElementById(id);

export class Monitor {
  #delay = new Plot(byId("delay-plot"), { least: 40 });
  #rate = new Plot(byId("rate-plot"), { least: 30 });
  #began = null; // since when it has been running, as far as this page has seen
  #stages = {};
  #notices;

  constructor(notices) {
    this.#notices = notices;
  }

  // stats: the server's message.
  show(stats) {
    const { median, p95, last } = stats.delay_ms;
    const isRunning = stats.state === "running";
    const now = performance.now();
    this.#began = isRunning ? this.#began ?? now : null;
    const ran = isRunning ? now - this.#began : 0;
    const isSteady = ran > SETTLE_MS + WINDOW_MS || 1000 * stats.uptime_s - ran > SETTLE_MS + WINDOW_MS;
    byId("delay").textContent = median === null ? "–" : String(Math.round(median));
    byId("delay-note").textContent = p95 === null
      ? "camera to output"
      : `to output; 95\u00a0% within ${Math.round(p95)}\u00a0ms`;
    byId("rate").textContent = isRunning ? stats.output_fps.toFixed(1) : "–";
    byId("rate-note").textContent = `of ${stats.capture_fps.toFixed(1)} captured; ${dropped(stats)}`;
    if (!isRunning || ran >= SETTLE_MS) {
      this.#delay.add(isRunning ? last : null, isRunning && isSteady ? p95 : null);
      this.#rate.add(isRunning ? stats.output_fps : null, isRunning && isSteady ? stats.capture_fps : null);
    }
    byId("delay-plot").setAttribute("aria-label", `Latency over the last minute, now ${byId("delay").textContent} ms`);
    byId("rate-plot").setAttribute("aria-label", `Frame rate over the last minute, now ${byId("rate").textContent} a second`);
    const { name, size_wh: [width, height], rate } = stats.source;
    const facts = [name, `${width} × ${height}`, rate && `${Math.round(100 * rate) / 100} fps`];
    byId("source").textContent = facts.filter(Boolean).join(" · ");
    tell("providers", byProvider(stats.providers));
    tell("outputs", stats.outputs.map(({ name, message, shown }) => (
      `${name}: ${message === null ? `${shown} frames` : "see the notice"}`
    )));
    this.#showStages(stats.stages_ms);
    this.#notices.hold("messages", stats.notices);
  }

  #showStages(stages) {
    const smooth = (name) => SMOOTH * (this.#stages[name] ?? stages[name]) + (1 - SMOOTH) * stages[name];
    this.#stages = Object.fromEntries(Object.keys(stages).map((name) => [name, smooth(name)]));
    const times = Object.entries(this.#stages).map(([name, ms]) => `${name}\u00a0${ms.toFixed(1)}`);
    tell("stages", times.length ? [`${times.join(", ")}\u00a0ms`] : []);
  }

  // Without a server nothing is known.
  clear() {
    byId("delay").textContent = byId("rate").textContent = "–";
    this.#delay.add(null);
    this.#rate.add(null);
    this.#began = null;
    this.#notices.hold("messages", []);
  }
}

// The networks that each provider runs; where there is one provider, that is enough.
function byProvider(providers) {
  const networks = {};
  for (const [network, provider] of Object.entries(providers)) (networks[provider] ??= []).push(network);
  const found = Object.entries(networks);
  return found.map(([provider, names]) => (found.length > 1 ? `${provider}: ${names.join(", ")}` : provider));
}

function dropped(stats) {
  if (!stats.dropped) return "none dropped";
  return `${(100 * stats.dropped_share).toFixed(1)}\u00a0% dropped`;
}

// Lines of a fact, only where they changed, so that a selection of the text stays.
function tell(id, lines) {
  const fact = byId(id);
  const text = lines.length ? lines.join("\n") : "–";
  if (fact.textContent !== text) fact.textContent = text;
}
