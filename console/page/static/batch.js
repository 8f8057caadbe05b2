// The page of a batch: one upload, whose answers come one by one into a table.

import { question, show } from "./answer.js";
import { csv, download } from "./csv.js";
import { ask, find, say, takeFiles, words } from "./page.js";
import { entries, entry } from "./zip.js";

const KINDS = ["flag", "review", "pass", "error"];
const COLUMNS = ["name", "decision", "label", "score", "confidence", "error"];
let total = 0, rows = [], files = new Map(), hidden = new Set(), sorted = { by: "", up: true }, running = null, clicked = 0;

const kind = (row) => (row.error && !row.decision ? "error" : row.decision || "error");
const isZip = (file) => /\.zip$/i.test(file.name) || file.type === "application/zip";
const percent = (share) => (share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);
const digits = (value) => (value === null ? "" : Number(value.toPrecision(3)).toString());

function begin(chosen) {
  running?.abort();
  running = new AbortController();
  [rows, files, hidden] = [[], new Map(), new Set()];
  find("rows").replaceChildren();
  find("results").hidden = false;
  find("stop").hidden = false;
  find("drop").classList.add("small");
  find("progress").removeAttribute("value");
  find("csv").disabled = true;
  filters();
  for (const file of chosen) files.set(file.name, file);
  total = 0;
  return running;
}

async function send(chosen) {
  const mine = begin(chosen);
  for (const file of chosen) total += isZip(file) ? await entries(file) : 1;
  const form = new FormData();
  for (const file of chosen) form.append("images", file, file.name);
  const asked = new URLSearchParams(find("model")?.value ? { model: find("model").value } : {});
  say(`Sending ${chosen.length === 1 ? chosen[0].name : `${chosen.length} files`} …`);
  try {
    const answer = await ask(`batch_predict?${asked}`, { method: "POST", body: form, signal: mine.signal, headers: { Accept: "application/x-ndjson" } });
    await read(answer.body, mine);
    say(`${rows.length} ${rows.length === 1 ? "picture" : "pictures"} answered.`);
  } catch (error) {
    if (mine !== running) return;
    if (error.name === "AbortError") say(`Stopped after ${rows.length} answers.`);
    else say(`${words(error)}${rows.length ? ` The first ${rows.length} answers are below.` : ""}`, true);
    find("results").hidden = !rows.length;
  }
  find("progress").value = find("progress").max;
  find("stop").hidden = true;
}

// Lines of JSON as they come, drawn once a frame.
async function read(stream, mine) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", drawn = false;
  const draw = () => { drawn = false; table(); };
  for (;;) {
    const { done, value } = await reader.read();
    if (done || mine !== running) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) take(JSON.parse(line));
    if (!drawn) { drawn = true; requestAnimationFrame(draw); }
  }
  table();
}

function take(line) {
  const answer = line.answer ?? { decision: "", label: "", score: null, confidence: null, error: null };
  const wrong = line.error ?? answer.error;
  const { decision, label, score, confidence } = answer;
  rows.push({ place: line.index, name: line.name, decision, label, score, confidence, error: wrong ? `${wrong.code}: ${wrong.message}` : "" });
  find("progress").value = rows.length / total;
  find("csv").disabled = false;
  say(`${rows.length} answered …`);
}

function filters() {
  const counted = Object.fromEntries(KINDS.map((one) => [one, rows.filter((row) => kind(row) === one).length]));
  const places = [...find("filters").querySelectorAll("input")];
  if (!places.length) {
    for (const one of KINDS) {
      const label = document.createElement("label"), box = document.createElement("input"), text = document.createElement("span");
      Object.assign(box, { type: "checkbox", checked: true, value: one });
      text.className = `pill ${one}`;
      label.append(box, text);
      box.addEventListener("change", () => { hidden[box.checked ? "delete" : "add"](one); table(); });
      find("filters").append(label);
    }
    return filters();
  }
  for (const box of places) {
    box.nextSibling.textContent = `${counted[box.value]} ${box.value}`;
    box.checked = !hidden.has(box.value);
  }
}

function table() {
  filters();
  const compared = (a, b) => {
    const [one, other] = [a[sorted.by], b[sorted.by]];
    if (one === null || other === null) return (one === null) - (other === null);  // what has no number is last, either way
    const order = typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
    return (sorted.up ? order : -order) || a.place - b.place;
  };
  const shown = rows.filter((row) => !hidden.has(kind(row)));
  if (sorted.by) shown.sort(compared);
  find("rows").replaceChildren(...shown.map(line));
  for (const head of document.querySelectorAll("th[data-by]")) {
    head.setAttribute("aria-sort", head.dataset.by !== sorted.by ? "none" : sorted.up ? "ascending" : "descending");
  }
}

// A row's element, made once.
function line(row) {
  if (row.element) return row.element;
  const made = document.createElement("tr"), name = document.createElement("th"), button = document.createElement("button");
  name.scope = "row";
  name.className = "whole";
  Object.assign(button, { type: "button", className: "plain", textContent: row.name });
  button.addEventListener("click", () => open(row));
  name.append(button);
  made.append(name);
  const pill = document.createElement("span");
  Object.assign(pill, { className: `pill ${kind(row)}`, textContent: row.decision || "no decision" });
  const cells = [["Decision", pill, ""], ["Label", row.label, ""], ["Score", digits(row.score), "number"], ["Confidence", row.confidence === null ? "" : percent(row.confidence), "number"], ["Error", row.error, "whole"]];
  for (const [title, content, style] of cells) {
    const cell = document.createElement("td");
    cell.className = style;
    if (title !== "Decision") cell.dataset.name = title;
    cell.append(content);
    made.append(cell);
  }
  row.element = made;
  return made;
}

async function pictureOf(name) {
  if (files.has(name)) return files.get(name);
  for (const [zip, file] of files) {  // the console names a ZIP's pictures by the ZIP first
    const found = isZip(file) && name.startsWith(`${zip}/`) && (await entry(file, name.slice(zip.length + 1)));
    if (found) return found;
  }
  throw new Error(`${name} is not among the files any more`);
}

async function open(row, threshold) {
  const mine = ++clicked;
  find("one-name").textContent = row.name;
  find("answer").textContent = "Asking …";
  if (!find("one").open) find("one").showModal();
  try {
    const html = await question(await pictureOf(row.name), find("model")?.value, threshold);
    if (mine === clicked) show(find("answer"), html, (chosen) => open(row, chosen));
  } catch (error) {
    if (mine === clicked) find("answer").textContent = words(error);
  }
}

if (find("drop")) takeFiles(send, [find("files")]);
find("stop").addEventListener("click", () => running?.abort());
find("close").addEventListener("click", () => find("one").close());
find("csv").addEventListener("click", () => download("answers.csv", csv(COLUMNS, rows.map((row) => COLUMNS.map((column) => row[column])))));
for (const head of document.querySelectorAll("th[data-by] button")) {
  head.addEventListener("click", () => {
    const { by } = head.parentElement.dataset;
    sorted = { by, up: sorted.by === by ? !sorted.up : true };
    table();
  });
}
