// A table as CSV (RFC 4180), safe to open in a spreadsheet.

// A cell that a spreadsheet would take for a formula gets an apostrophe before it: a file may be named =cmd|...
const cell = (value) => {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value !== "number" && /^[=+\-@\t\r\n|\uff1d\uff0b\uff0d\uff20]/.test(text.trimStart() || text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export const csv = (columns, rows) => [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

// Have the browser keep a text as a file. The mark at its beginning tells Excel that it is UTF-8.
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
