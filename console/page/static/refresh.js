// A page whose figures change: the part `fresh` is asked for anew every 15 s, while the page is in sight.

import { ask, find, say, trusted, words } from "./page.js";

const EVERY_MS = 15_000;

async function refresh() {
  if (document.hidden || find("fresh").contains(document.activeElement)) return;  // nobody loses the place where they read by keys
  try {
    const html = await (await ask(location.href)).text();
    const fresh = new DOMParser().parseFromString(trusted(html), "text/html").getElementById("fresh");
    if (fresh) find("fresh").replaceChildren(...document.adoptNode(fresh).childNodes);
    say(`as of ${new Date().toLocaleTimeString()}`);
  } catch (error) {
    say(words(error), true);
  }
}

setInterval(refresh, EVERY_MS);
document.querySelector("[data-submit]")?.addEventListener("change", (event) => event.target.form.requestSubmit());
