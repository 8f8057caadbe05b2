// The page of the review queue: one picture at a time, labelled by a key or a button.

import { Refused, ask, find, say, words } from "./page.js";

const NAMES = { missed: "positives missed", false_alarms: "others flagged", wrong_passed: "passed, but wrong" };
const COUNTED = 500; // of each lane no more are counted
let held = null, busy = false;

// This window's own name: another window of the same key holds another picture.
const mine = sessionStorage.getItem("window") ?? crypto.getRandomValues(new Uint32Array(3)).join("-");
sessionStorage.setItem("window", mine);

const post = async (path, body) => {
  const headers = body ? { "Content-Type": "application/json" } : {};
  return (await ask(`reviews/${path}?window=${mine}`, { method: "POST", headers, body: body && JSON.stringify(body) })).json();
};
const of = (path) => `${path}?window=${mine}`;

function show(item) {
  held = item;
  find("item").hidden = !item;
  find("skip").disabled = !item;
  find("again").hidden = Boolean(item);
  if (!item) return;
  find("asked").textContent = `What does this picture show? (${item.model})`;
  find("map").setAttribute("aria-pressed", "false");
  find("picture").alt = "The picture to label";
  find("picture").src = of(item.picture);
  find("labels").replaceChildren(...item.labels.map(button));
  const { review = 0, audit = 0, drift = 0 } = item.waiting;
  const more = Math.max(review, audit, drift) >= COUNTED ? " or more" : "";
  find("waiting").textContent = `${review + audit + drift}${more} wait, this one included`;
  find("asked").focus({ preventScroll: true });
}

function button(label, place) {
  const made = document.createElement("button"), key = document.createElement("kbd");
  made.type = "button";
  made.append(`${label} `);
  if (place < 9) {
    key.textContent = place + 1;
    made.append(key);
    made.setAttribute("aria-keyshortcuts", place + 1);
  }
  made.addEventListener("click", () => act(() => give(label)));
  return made;
}

// One thing after the other: a key that is pressed twice labels one picture.
async function act(what) {
  if (busy) return;
  busy = true;
  try {
    await what();
  } catch (error) {
    if (error instanceof Refused && error.message.startsWith("console.nothing_waits")) nothing();
    else if (error instanceof Refused && error.message.startsWith("console.item_")) await after(words(error), true);
    else say(words(error), true);
  } finally {
    busy = false;
  }
}

function nothing() {
  const before = find("state").textContent;
  show(null);
  find("waiting").textContent = "";
  say(`${before ? `${before} ` : ""}No picture waits for you.`);
}

async function after(sentence, wrong = false) {
  say(sentence, wrong);
  try {
    show(await post("next"));
  } catch (error) {
    if (!(error instanceof Refused && error.message.startsWith("console.nothing_waits"))) throw error;
    nothing();
  }
}

async function give(label) {
  if (!held) return;
  await post(`${held.id}/label`, { label });
  await after(`Labelled ${label}.`);
}

async function skip() {
  if (!held) return;
  await post(`${held.id}/skip`);
  await after("Skipped.");
}

async function undo() {
  show(await post("undo"));
  say("Undone: it is yours again.");
}

function map() {
  if (!held) return;
  const shown = find("map").getAttribute("aria-pressed") !== "true";
  find("map").setAttribute("aria-pressed", shown);
  find("picture").alt = shown ? "The picture to label, with its heat map" : "The picture to label";
  find("picture").src = of(shown ? held.map : held.picture);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function compute() {
  const archives = await (await ask("reviews/figures")).json();
  const rows = [], notes = [];
  for (const one of archives) {
    for (const figure of one.figures) {
      const row = document.createElement("tr");
      const promised = figure.promise === null ? "" : `at most ${percent(figure.promise)}: ${figure.verdict}`;
      const cells = [
        ["Archive", `${one.model} ${one.version} (${one.archive.slice(0, 8)})`], ["Share", NAMES[figure.name]], ["Seen", figure.share === null ? "" : percent(figure.share), "number"],
        ["Bounds", `${percent(figure.lower)} to ${percent(figure.upper)}`, "number"], ["Labels", figure.labels, "number"], ["Promise", promised],
      ];
      for (const [name, content, style] of cells) {
        const cell = document.createElement(name === "Archive" ? "th" : "td");
        if (name === "Archive") cell.scope = "row";
        else cell.dataset.name = name;
        cell.className = style ?? "";
        cell.textContent = content;
        row.append(cell);
      }
      rows.push(row);
    }
    for (const sentence of one.notes) {
      const note = document.createElement("p");
      note.textContent = sentence;
      notes.push(note);
    }
  }
  find("figures").replaceChildren(...rows);
  find("notes").replaceChildren(...notes);
  if (!rows.length) say("No answer was counted yet.");
}

const KEYS = { m: map, s: () => act(skip), u: () => act(undo), "?": () => { find("help").open = !find("help").open; } };

document.addEventListener("keydown", (event) => {
  if (!find("keys").checked || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const named = held?.labels[Number(event.key) - 1], other = KEYS[event.key.toLowerCase()];
  if (/^[1-9]$/.test(event.key) && named !== undefined) act(() => give(named));
  else if (other) other();
  else return;
  event.preventDefault();
});
find("picture").addEventListener("error", () => {
  if (held) say("The picture cannot be shown; skip it, or label it if you know what it is.", true);
});
find("keys").checked = localStorage.getItem("keys") !== "off";
find("keys").addEventListener("change", () => localStorage.setItem("keys", find("keys").checked ? "on" : "off"));
find("map").addEventListener("click", map);
find("skip").addEventListener("click", () => act(skip));
find("undo").addEventListener("click", () => act(undo));
find("again").addEventListener("click", () => act(() => after("")));
find("compute").addEventListener("click", () => act(compute));
act(() => after(""));
