// What all pages share: asking the console, putting its HTML into a page, and telling what goes on.

const policy = globalThis.trustedTypes?.createPolicy("console", { createHTML: (text) => text });

export const find = (id) => document.getElementById(id);

export class Refused extends Error {}

// Ask the console. `asked`: fetch's options. Raises Refused with the console's own sentence.
export async function ask(address, asked = {}) {
  const headers = { ...asked.headers };
  if (document.body.dataset.csrf) headers["X-CSRF-Token"] = document.body.dataset.csrf;
  let response;
  try {
    response = await fetch(address, { ...asked, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The console does not answer; is it still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  if (response.status === 401) throw new Refused("You are signed out: load the page again to sign in.");
  throw new Refused(said.error ? `${said.error.code}: ${said.error.message}` : `The console answered ${response.status}; try again.`);
}

// HTML that the console has made, and escaped: the one place where text becomes HTML.
export const trusted = (html) => (policy ? policy.createHTML(html) : html);

export function say(sentence, wrong = false) {
  const state = find("state");
  state.textContent = sentence;
  state.classList.toggle("error", wrong);
}

// What went wrong, for `say`.
export const words = (error) => (error instanceof Refused ? error.message : `This page failed: ${error.message}`);

// Call `taken` with the files that are dropped anywhere on the page, pasted into it or chosen by one of its inputs.
export function takeFiles(taken, inputs) {
  for (const input of inputs) {
    input.addEventListener("change", () => { if (input.files.length) taken([...input.files]); });
    input.addEventListener("click", () => { input.value = ""; });  // so that the same file can be chosen again
  }
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();  // or the browser would leave this page for the picture
      find("drop")?.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) taken([...event.dataTransfer.files]);
    });
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) taken([...event.clipboardData.files]);
  });
}
