// Requests to the server that served this page; the cookie authenticates them.

const FILES = { overlay: "Video", masks: "Masks (zip)", rle: "Tracks JSON", csv: "Table CSV" };
const FILES_OF_IMAGES = { ...FILES, overlay: "Overlays (zip)", rle: "Masks JSON" };

async function checked(response) {
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch { /* not JSON: the number says enough */ }
  throw new Error(message);
}

// null when a newer request overtook this one.
const content = (response) => (response.status === 204 ? null : response.json());

async function post(address, value, signal) {
  const body = JSON.stringify(value);
  const headers = { "Content-Type": "application/json" };
  return content(await checked(await fetch(address, { method: "POST", headers, body, signal })));
}

export const facts = async () => (await checked(await fetch("api/facts"))).json();
export const edit = (what) => post("api/edit", what);
export const command = (what) => post("api/command", what);
export const goodbye = () => navigator.sendBeacon("api/leave");

// Without an object the mask is a new one's.
export async function uploadMask(file, frame, object) {
  if (file.size > 16 * 2 ** 20) throw new Error("the file is over 16 MB: a PNG at the video's size expected");
  const address = `api/mask?frame=${frame}${object === null ? "" : `&object=${object}`}`;
  return (await checked(await fetch(address, { method: "POST", body: file }))).json();
}

// A frame and its time: {bitmap, seconds}.
export async function image(address) {
  const response = await checked(await fetch(address));
  const seconds = Number(response.headers.get("samvideo-seconds"));
  return { bitmap: await createImageBitmap(await response.blob()), seconds };
}

// Outlines on a frame, or null.
export const masks = async (frame) => content(await checked(await fetch(`api/masks/${frame}`)));

// Objects found on a frame, or null: everything, or what texts name.
export const propose = (frame, texts, signal) => post("api/propose", { frame, texts }, signal);

// Links to the files that were written.
export function downloads(files, stills) {
  const names = stills ? FILES_OF_IMAGES : FILES;
  return Object.keys(files).map((kind) => {
    const link = Object.assign(document.createElement("a"), { href: `api/files/${kind}`, textContent: names[kind] ?? kind });
    link.setAttribute("download", "");
    return link;
  });
}

// News from the server, until it ends or `onLost` closes the source that it is given.
export function listen(onNews, onLost) {
  const source = new EventSource("api/events");
  source.onmessage = (event) => onNews(JSON.parse(event.data));
  source.onerror = () => onLost(source);
}
