// Requests to the server that served this page; the cookie authenticates them.

async function checked(response) {
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch { /* not JSON: the number says enough */ }
  throw new Error(message);
}

async function post(address, value) {
  const body = JSON.stringify(value);
  const headers = { "Content-Type": "application/json" };
  return (await checked(await fetch(address, { method: "POST", headers, body }))).json();
}

export const facts = async () => (await checked(await fetch("/api/facts"))).json();
export const edit = (what) => post("/api/edit", what);
export const command = (what) => post("/api/command", what);
export const goodbye = () => navigator.sendBeacon("/api/leave");

export async function uploadMask(file, frame, object) {
  if (file.size > 16 * 2 ** 20) throw new Error("the file is over 16 MB: a PNG at the video's size expected");
  const address = `/api/mask?frame=${frame}&object=${object}`;
  return (await checked(await fetch(address, { method: "POST", body: file }))).json();
}

export async function image(address) {
  const response = await checked(await fetch(address));
  return createImageBitmap(await response.blob());
}

// Outlines on a frame; null when a newer request overtook this one.
export async function masks(frame) {
  const response = await checked(await fetch(`/api/masks/${frame}`));
  return response.status === 204 ? null : response.json();
}

// News from the server until `onNews` returns true.
export function listen(onNews, onLost) {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => {
    if (onNews(JSON.parse(event.data))) source.close();
  };
  source.onerror = () => onLost();
  return source;
}
