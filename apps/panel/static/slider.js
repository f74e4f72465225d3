// Range inputs whose filled part is drawn, and that say their value in percent.

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

// Shows a share 0..(max / 100) on a slider in percent, unless it has it already.
export function show(slider, output, share) {
  const value = String(Math.round(100 * share));
  if (slider.value !== value) slider.value = value;
  slider.style.setProperty("--fill", `${(100 * slider.value) / slider.max}%`);
  slider.setAttribute("aria-valuetext", percent(share));
  output.textContent = percent(share);
}
