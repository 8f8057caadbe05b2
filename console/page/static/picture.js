// The page of one picture.

import { question, show } from "./answer.js";
import { find, say, takeFiles, words } from "./page.js";

let turn = 0, last = null;

async function about(file, threshold) {
  const mine = ++turn;
  last = file;
  say(`Asking about ${file.name || "the picture"} …`);
  find("answer").classList.add("busy");
  try {
    const html = await question(file, find("model")?.value, threshold);
    if (mine !== turn) return;
    find("drop").classList.add("small");
    show(find("answer"), html, (chosen) => about(file, chosen));
    say("");
    find("answer").focus({ preventScroll: threshold !== undefined });
  } catch (error) {
    if (mine !== turn) return;
    find("answer").replaceChildren();
    say(words(error), true);
  } finally {
    if (mine === turn) find("answer").classList.remove("busy");
  }
}

if (find("drop")) takeFiles(([file]) => about(file), [find("file"), find("photo")]);
find("model")?.addEventListener("change", () => { if (last) about(last); });
