// Reads the .npz files that NumPy's `savez` writes: zip archives whose members are not compressed.

const DIRECTORY_END = 0x06054b50;
const TYPES = { "<f4": Float32Array, "<f8": Float64Array, "<i4": Int32Array, "|u1": Uint8Array };

/** Arrays by name, flat, in the order of rows. */
export function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== DIRECTORY_END) end -= 1;
  if (end < 0) throw new Error("not an .npz file");
  const arrays = {};
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    const short = (offset) => view.getUint16(offset, true);
    const name = text(buffer, entry + 46, short(entry + 28)).replace(/\.npy$/, "");
    if (short(entry + 10) !== 0) throw new Error(`${name} is compressed`);
    const local = view.getUint32(entry + 42, true);
    arrays[name] = readNpy(buffer, local + 30 + short(local + 26) + short(local + 28));
    entry += 46 + short(entry + 28) + short(entry + 30) + short(entry + 32);
  }
  return arrays;
}

function readNpy(buffer, begin) {
  const view = new DataView(buffer, begin);
  const wide = view.getUint8(6) > 1; // the length of the header has two bytes in version 1
  const data = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = text(buffer, begin, data);
  const [, type] = header.match(/'descr': '([^']+)'/);
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((side) => side.trim()).map(Number);
  if (!TYPES[type]) throw new Error(`arrays of ${type} are not read`);
  const bytes = shape.reduce((a, b) => a * b, 1) * TYPES[type].BYTES_PER_ELEMENT;
  return new TYPES[type](buffer.slice(begin + data, begin + data + bytes));
}

const text = (buffer, begin, length) => new TextDecoder("latin1").decode(new Uint8Array(buffer, begin, length));
