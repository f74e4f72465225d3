// A line over the last minute on a canvas.

const SPAN_MS = 60_000;

export class Plot {
  #canvas;
  #least;
  #points = []; // [when, value, second value or null]

  // least: the upper end of the scale is never below it.
  constructor(canvas, { least }) {
    this.#canvas = canvas;
    this.#least = least;
    new ResizeObserver(() => this.draw()).observe(canvas);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // A value, and another one drawn fainter; null leaves a gap.
  add(value, faint = null) {
    const now = performance.now();
    this.#points.push([now, value, faint]);
    while (this.#points[0][0] < now - SPAN_MS) this.#points.shift();
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const top = this.#top();
    this.#grid(context, { width, height, top, style });
    const place = { width, height, top };
    this.#line(context, 2, place, style.getPropertyValue("--line-faint"));
    this.#line(context, 1, place, style.getPropertyValue("--line"));
  }

  // A round number that is not below any value of the last minute.
  #top() {
    const values = this.#points.flatMap(([, value, faint]) => [value ?? 0, faint ?? 0]);
    const most = Math.max(this.#least, ...values);
    const step = 10 ** Math.floor(Math.log10(most));
    return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((times) => times * step).find((top) => top >= most);
  }

  #grid(context, { width, height, top, style }) {
    context.strokeStyle = style.getPropertyValue("--grid");
    context.fillStyle = style.getPropertyValue("--muted");
    context.font = `11px ${style.fontFamily}`;
    context.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(4 + (height - 8) * (1 - share)) + 0.5;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width - 30, y);
      context.stroke();
      context.textBaseline = "middle";
      context.textAlign = "right";
      context.fillText(String(Math.round(10 * top * share) / 10), width, Math.min(height - 6, Math.max(6, y)));
    }
  }

  #line(context, column, { width, height, top }, colour) {
    const now = performance.now();
    context.strokeStyle = colour;
    context.lineWidth = column === 1 ? 1.75 : 1.25;
    context.lineJoin = "round";
    context.beginPath();
    let isDown = false;
    for (const point of this.#points) {
      if (point[column] === null) {
        isDown = false;
        continue;
      }
      const x = (width - 32) * (1 - (now - point[0]) / SPAN_MS);
      const y = 4 + (height - 8) * (1 - point[column] / top);
      if (isDown) context.lineTo(x, y);
      else context.moveTo(x, y);
      isDown = true;
    }
    context.stroke();
  }
}
