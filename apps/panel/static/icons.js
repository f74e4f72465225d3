// Line drawings of faces, one per expression.

const SVG = "http://www.w3.org/2000/svg";
const FLAT_BROWS = "M9.3 11h4.2M18.5 11h4.2";
const ROUND_BROWS = "M9 11.2q2.3-1.9 4.6-.4M23 11.2q-2.3-1.9-4.6-.4";
const WORRIED_BROWS = "M8.9 11.8l4.5-2.3M23.1 11.8l-4.5-2.3";

const DRAWINGS = {
  none: { lines: "M8.2 23.8L23.8 8.2", eye: 0 },
  neutral: { lines: `${FLAT_BROWS}M11.2 21h9.6`, eye: 1.25 },
  happy: { lines: `${ROUND_BROWS}M9.8 18.8q6.2 6.6 12.4 0`, eye: 1.25 },
  sad: { lines: `${WORRIED_BROWS}M11.2 22.6q4.8-4.6 9.6 0`, eye: 1.25 },
  surprised: {
    lines: "M8.9 9.8q2.4-2.3 4.8-.5M23.1 9.8q-2.4-2.3-4.8-.5M18.6 21.3a2.6 3 0 1 1-5.2 0a2.6 3 0 1 1 5.2 0",
    eye: 1.5,
  },
  fearful: { lines: `${WORRIED_BROWS}M10.6 21.8q1.8-2.6 3.6 0t3.6 0t3.6 0`, eye: 1.6 },
  disgusted: { lines: "M9 10.6l4.4 1.3M23 10.6l-4.4 1.3M14.6 16.6l1.4.9l1.4-.9M10.8 22.4q2.4-3.4 5.2-2t5.2-.2", eye: 1.1 },
  angry: { lines: "M8.9 9.6l4.8 2.7M23.1 9.6l-4.8 2.7M11.2 22.2q4.8-3 9.6 0", eye: 1.25 },
  contemptuous: { lines: "M9.3 11.2h4.2M18.4 9.8q2.2-1.5 4.5.2M11 21.4h4.8q3.6 0 5.4-3", eye: 1.25 },
};

// A drawing for an expression; a plain circle for one that is not known.
export function face(name) {
  const { lines = "", eye = 1.25 } = DRAWINGS[name] ?? {};
  const svg = element("svg", { viewBox: "0 0 32 32", "aria-hidden": "true", class: "face-icon" });
  svg.append(element("circle", { cx: 16, cy: 16, r: 13 }), element("path", { d: lines }));
  if (eye) {
    for (const cx of [11.6, 20.4]) svg.append(element("circle", { cx, cy: 14.9, r: eye, class: "eye" }));
  }
  return svg;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
