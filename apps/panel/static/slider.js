// Range inputs whose filled part is drawn, and that say their value in percent.

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

// Shows a share (min / 100)..(max / 100) on a slider in percent, unless it has it already.
export function show(slider, output, share) {
  const value = String(Math.round(100 * share));
  if (slider.value !== value) slider.value = value;
  slider.style.setProperty("--fill", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
  slider.setAttribute("aria-valuetext", percent(share));
  output.textContent = percent(share);
}

// Lets a slider that is dragged close to a value come to rest there; keys reach every value.
export function addDetent(slider, value, reach) {
  let dragged = false;
  slider.addEventListener("pointerdown", () => (dragged = true));
  for (const end of ["change", "keydown"]) slider.addEventListener(end, () => (dragged = false));
  slider.addEventListener("input", () => {
    if (dragged && Math.abs(slider.value - value) <= reach) slider.value = value;
  });
}
