// Entries of a ZIP that the browser has, so that a click on a row need not send the whole ZIP again. APPNOTE.TXT, 4.3.

const END = 0x06054b50, ENTRY = 0x02014b50, LOCAL = 0x04034b50, UTF8 = 0x0800;
const END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30, COMMENT = 65_535, STORED = 0, DEFLATED = 8;

const view = async (file, from, to) => new DataView(await file.slice(from, to).arrayBuffer());

// The files of the ZIP's directory; none where it cannot be read, which the console says better.
async function* directory(file) {
  const tail = await view(file, Math.max(0, file.size - END_BYTES - COMMENT), file.size);
  let end = tail.byteLength - END_BYTES;
  while (end >= 0 && tail.getUint32(end, true) !== END) end--;
  if (end < 0) return;
  const size = tail.getUint32(end + 12, true), offset = tail.getUint32(end + 16, true);
  const list = await view(file, offset, offset + size);
  for (let at = 0; at + ENTRY_BYTES <= list.byteLength && list.getUint32(at, true) === ENTRY;) {
    const [flags, method] = [8, 10].map((place) => list.getUint16(at + place, true));
    const [length, extra, comment] = [28, 30, 32].map((place) => list.getUint16(at + place, true));
    const [packed, local] = [20, 42].map((place) => list.getUint32(at + place, true));
    const bytes = new Uint8Array(list.buffer, at + ENTRY_BYTES, Math.min(length, list.byteLength - at - ENTRY_BYTES));
    const name = flags & UTF8 ? new TextDecoder().decode(bytes) : String.fromCharCode(...bytes);
    if (!name.endsWith("/")) yield { name, method, packed, local };
    at += ENTRY_BYTES + length + extra + comment;
  }
}

// How many files a ZIP has, one at least.
export async function entries(file) {
  let found = 0;
  for await (const _ of directory(file)) found++;
  return Math.max(1, found);
}

// The file of this name as a File, null where the ZIP has none that can be read.
export async function entry(file, name) {
  for await (const found of directory(file)) if (found.name === name) return unpack(file, found);
  return null;
}

async function unpack(file, { name, method, packed, local }) {
  const head = await view(file, local, local + LOCAL_BYTES);
  if (head.byteLength < LOCAL_BYTES || head.getUint32(0, true) !== LOCAL) return null;
  const begin = local + LOCAL_BYTES + head.getUint16(26, true) + head.getUint16(28, true);
  const part = file.slice(begin, begin + packed);
  if (method === STORED) return new File([part], name);
  if (method !== DEFLATED) return null;
  const plain = part.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new File([await new Response(plain).blob()], name);
}
