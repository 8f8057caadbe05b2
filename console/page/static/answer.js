// One picture's answer in a page: asked for, shown, with its two sliders.

import { ask, trusted } from "./page.js";

// Ask about a file. Returns the console's HTML. `threshold`: in the place of the archive's, if given.
export async function question(file, model, threshold) {
  const asked = new URLSearchParams({ name: file.name || "picture" });
  if (model) asked.set("model", model);
  if (threshold !== undefined) asked.set("threshold", threshold);
  const headers = { "Content-Type": "application/octet-stream" };
  return (await ask(`answer?${asked}`, { method: "POST", body: file, headers })).text();
}

// Show an answer in `place`. `again`: called with a threshold to ask once more by.
export function show(place, html, again) {
  place.innerHTML = trusted(html);
  const opacity = place.querySelector("[data-opacity]"), layer = place.querySelector("[data-layer]");
  opacity?.addEventListener("input", () => {
    layer.style.opacity = opacity.value / 100;
    opacity.nextElementSibling.textContent = `${opacity.value} %`;
  });
  const curve = place.querySelector("[data-curve]");
  if (curve) choose(curve, again);
}

// The slider of thresholds: every choice's words come from the console.
function choose(section, again) {
  const choices = JSON.parse(section.dataset.curve);
  const slider = section.querySelector("[data-threshold]"), picked = section.querySelector("[data-picked]");
  const shown = Object.fromEntries([...section.querySelectorAll("[data-shown]")].map((one) => [one.dataset.shown, one]));
  const update = () => {
    const choice = choices[slider.value], at = (100 * slider.value) / (choices.length - 1);
    for (const end of ["x1", "x2"]) picked.setAttribute(end, at);
    shown.threshold.textContent = choice.shown;
    shown.missed.textContent = choice.missed;
    shown.flagged.textContent = choice.flagged;
    shown.outcome.textContent = choice.outcome;
    shown.said.textContent = choice.said;
    slider.setAttribute("aria-valuetext", choice.said);
  };
  slider.addEventListener("input", update);
  section.querySelector("[data-again]").addEventListener("click", () => again(choices[slider.value].threshold));
  update();
}
