// Where the server is, and what it refuses.

const token = document.querySelector('meta[name="mien-token"]').content;

// The address of a path of the server, with the token that every request carries.
export function address(path, parameters = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries({ ...parameters, token })) {
    url.searchParams.set(name, value);
  }
  return url.href;
}

// Why the server does not let this page in; null where it does, or is missing altogether.
export async function refusal() {
  try {
    const answer = await fetch(address("/health"));
    if (answer.status !== 401 && answer.status !== 403) return null;
    return "mien was restarted and has a new address: in its terminal, in the line that begins with panel:";
  } catch {
    return null;
  }
}

// The answer to a WebRTC offer. Throws an Error with a line for people.
export async function answerTo(offer, camera) {
  const answer = await fetch(address("/offer"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ type: "offer", sdp: offer.sdp, camera }),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}
