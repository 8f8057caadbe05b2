// One picture to this server's own V2 API, and its answer: decision, probabilities, heat map over the picture.
"use strict";

// As `visor predict --explain` draws: so many logits of evidence are full strength, at this opacity, in turbo's colours.
const FULL_LOGITS = 20, STRONGEST = 0.55;
// Pixels, black and white in turns, that go around where the evidence is at least half of its peak.
const DASH = 4;
// The longer side of the drawing, in pixels.
const SMALLEST = 256, LARGEST = 1024;
// Turbo as polynomials of its place on the scale, each by powers from 0 on: Mikhailov 2019, whose fit is Apache-2.0.
const TURBO = [
  [0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
  [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
  [0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
];
const COLOURS = Array.from({ length: 256 }, (_, n) =>
  TURBO.map((powers) => 255 * Math.min(1, Math.max(0, powers.reduceRight((sum, factor) => sum * (n / 255) + factor, 0)))));

const find = (id) => document.getElementById(id);
let token = "", models = new Map(), shown = null, asked = 0;

class Refused extends Error {}

// Ask the server. Raises Refused with the server's own sentence, or with what to do where there is none.
async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response, answer;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("The server does not answer; is it still running?");
  }
  try {
    answer = await response.json();
  } catch {
    throw new Refused(`The server answered ${response.status} without a sentence; try again.`);
  }
  if (response.status === 401) {
    find("access").hidden = false;
    if (!token) throw new Refused("");  // the field says what is wanted
  }
  if (!response.ok) throw new Refused(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}

function say(sentence, error = false) {
  find("state").textContent = sentence;
  find("state").className = error ? "error" : "";
}

async function listModels() {
  const index = await call("v2/repository/index");
  const names = [...new Set(index.map((one) => one.name))];
  models = new Map(names.map((name) => [name, null]));
  find("model").replaceChildren(...names.map((name) => new Option(name)));
  find("choice").hidden = names.length === 0;
  say(names.length ? "" : "This server has no model.");
}

async function labelsOf(name) {
  if (!models.get(name)) models.set(name, await call(`v2/models/${encodeURIComponent(name)}`));
  return models.get(name).parameters.labels;
}

// The binary extension: JSON, then one element of BYTES, which is its length in four bytes and the file as it is.
function bodyOf(file) {
  const head = new TextEncoder().encode(JSON.stringify({
    inputs: [{ name: "image", datatype: "BYTES", shape: [1], parameters: { binary_data_size: file.size + 4 } }],
    parameters: { explain: true },
  }));
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, file.size, true);
  return { headers: { "Inference-Header-Content-Length": String(head.length) }, body: new Blob([head, length.buffer, file]) };
}

async function ask(file) {
  const turn = ++asked;
  find("answer").hidden = true;
  say(`Asking about ${file.name || "the picture"} …`);
  try {
    if (!models.size) await listModels();
    const name = find("model").value;
    const labels = await labelsOf(name);
    const answer = await call(`v2/models/${encodeURIComponent(name)}/infer`, { method: "POST", ...bodyOf(file) });
    const picture = await createImageBitmap(file).catch(() => null);  // upright; null where the browser cannot read it
    if (turn === asked) show(answer, labels, picture);
  } catch (error) {
    if (turn !== asked) return;
    say(error instanceof Refused ? error.message : `This page failed: ${error.message}`, true);
  }
}

function show(answer, labels, picture) {
  const outputs = Object.fromEntries(answer.outputs.map((one) => [one.name, one]));
  const one = (name) => outputs[name]?.data[0];
  const told = answer.parameters;
  if (one("error")) {
    say(`${one("error_message") || one("error")}${one("decision") ? `; decision: ${one("decision")}` : ""}`, true);
    return;
  }
  find("decision").textContent = `${one("label")}, confidence ${percent(one("confidence"))}: ${one("decision")}`;
  find("decision").className = one("decision");
  find("rule").textContent = rule(one("decision"), one("score"), told);
  const rows = labels.map((label, n) => [label, outputs.probabilities.data[n]]).sort((a, b) => b[1] - a[1]);
  find("probabilities").replaceChildren(...rows.map(([label, probability]) => row(label, probability)));
  find("origin").textContent =
    `${answer.model_name} version ${answer.model_version}, archive ${told.archive_digest}`;
  const peak = one("heatmap_peak");
  let evidence = `Evidence for ${one("heatmap_label")}`;
  if (peak !== undefined) evidence += `, at most ${peak.toFixed(1)} logits; the strongest colour is ${FULL_LOGITS} or more`;
  find("evidence").textContent = picture ? evidence : `${evidence}. This browser cannot show the picture: the map is shown alone.`;
  find("picture").setAttribute("aria-label", `The picture with its heat map. ${evidence}.`);
  const [, height, width] = outputs.heatmap.shape;
  shown = {
    picture, height, width, values: outputs.heatmap.data, strength: peak === undefined ? 1 : peak / FULL_LOGITS,
    box: outputs.heatmap_box?.data ?? [0, 0, 1, 1],
  };
  draw();
  find("answer").hidden = false;
  say("Answered.");
}

function rule(decision, score, told) {
  const positive = JSON.parse(told.positive ?? "[]");
  const [from, to] = [told.review_from, told.review_to].map(number);
  const what = positive.length ? `The score, the probability of ${positive.join(" or ")}, is ${number(score)}` :
    `The confidence is ${number(score)}`;
  const band = positive.length && told.review_from < told.review_to ? `; a person looks from ${from} up to ${to}` : "";
  const where = { flag: "at or above", pass: positive.length ? "below" : "at or above", review: "within the band of" }[decision];
  return decision === "review" && !positive.length ? `${what}, below the threshold ${number(told.threshold)}.` :
    `${what}, ${where} the threshold ${number(told.threshold)}${band}.`;
}

function row(label, probability) {
  const line = document.createElement("tr"), name = document.createElement("th"), value = document.createElement("td");
  const meter = document.createElement("meter");
  name.scope = "row";
  name.textContent = label;
  meter.value = probability;
  meter.setAttribute("aria-label", label);
  value.append(meter, ` ${percent(probability)}`);
  line.append(name, value);
  return line;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const number = (share) => share.toPrecision(3);

// The heat map over the part that the network saw, scaled up bilinearly between the centres of its cells.
function draw() {
  const { picture, height, width, values, strength, box } = shown;
  const stored = picture ? [picture.width, picture.height] : [LARGEST / 2, LARGEST / 2];
  const longer = Math.max(...stored), ratio = Math.min(Math.max(longer, SMALLEST), LARGEST) / longer;
  const canvas = find("picture"), pen = canvas.getContext("2d", { willReadFrequently: true });
  [canvas.width, canvas.height] = stored.map((side) => Math.max(1, Math.round(side * ratio)));
  pen.fillStyle = "#fff";  // what is transparent lies on white, as the network sees it
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (picture) pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!find("shown").checked) return;
  const x = Math.min(Math.round(box[0] * canvas.width), canvas.width - 1);
  const y = Math.min(Math.round(box[1] * canvas.height), canvas.height - 1);
  const right = Math.max(x + 1, Math.round((box[0] + box[2]) * canvas.width));
  const bottom = Math.max(y + 1, Math.round((box[1] + box[3]) * canvas.height));
  const seen = pen.getImageData(x, y, right - x, bottom - y);
  const enlarged = new Float32Array(seen.width * seen.height);
  for (let row = 0, at = 0; row < seen.height; row++) {
    for (let column = 0; column < seen.width; column++, at++) {
      const value = between(values, height, width, ((row + 0.5) / seen.height) * height - 0.5, ((column + 0.5) / seen.width) * width - 0.5);
      const heat = Math.min(1, Math.max(0, value * strength)), colour = COLOURS[Math.round(heat * 255)];
      for (let n = 0; n < 3; n++) seen.data[4 * at + n] += (colour[n] - seen.data[4 * at + n]) * STRONGEST * heat;
      enlarged[at] = value;
    }
  }
  encircle(seen, enlarged);
  pen.putImageData(seen, x, y);
}

// Dashes on the pixels beside those where the evidence is at least half of its peak, however weak that is.
function encircle(seen, values) {
  const { width, height } = seen, half = values.reduce((most, value) => Math.max(most, value), 0) / 2;
  const inside = (row, column) =>
    row >= 0 && row < height && column >= 0 && column < width && values[row * width + column] >= half && values[row * width + column] > 0;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at++) {
      if (inside(row, column)) continue;
      if (!(inside(row - 1, column) || inside(row + 1, column) || inside(row, column - 1) || inside(row, column + 1))) continue;
      seen.data.fill(255 * (Math.floor((row + column) / DASH) % 2), 4 * at, 4 * at + 3);
    }
  }
}

function between(values, height, width, row, column) {
  const top = clamp(Math.floor(row), height), left = clamp(Math.floor(column), width);
  const down = clamp(Math.floor(row) + 1, height), over = clamp(Math.floor(column) + 1, width);
  const y = row - Math.floor(row), x = column - Math.floor(column);
  const above = values[top * width + left] * (1 - x) + values[top * width + over] * x;
  const below = values[down * width + left] * (1 - x) + values[down * width + over] * x;
  return above * (1 - y) + below * y;
}

const clamp = (place, size) => Math.min(size - 1, Math.max(0, place));

find("file").addEventListener("change", (event) => { if (event.target.files[0]) ask(event.target.files[0]); });
find("file").addEventListener("click", (event) => { event.target.value = ""; });  // so that the same file can be chosen again
find("shown").addEventListener("change", draw);
find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = find("token").value.trim();
  find("token").value = "";
  if (/[^!-~]/.test(given)) {  // what no header holds, and fetch would call a server that does not answer
    say("This token has spaces or other characters that no token has; copy it again.", true);
    return;
  }
  token = given;
  find("access").hidden = true;
  listModels().catch((error) => say(error.message, true));
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();  // or the browser would leave this page for the picture
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => { if (event.clipboardData.files[0]) ask(event.clipboardData.files[0]); });
listModels().catch((error) => say(error.message, true));
