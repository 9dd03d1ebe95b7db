// The admin API: JSON, and live events read from a stream. The token, where one is set, stays in this tab.

const TOKEN = "nearhit-token";

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export class Refused extends Error {}

async function answered(response) {
  if (response.status === 401) throw new Refused("admin token wanted");
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error?.message ?? body.error ?? `${response.status} ${response.statusText}`);
  }
  return response;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value != null));
  const response = await fetch(`/api/v1/${path}${query.size ? `?${query}` : ""}`, { headers: headers() });
  return (await answered(response)).json();
}

export async function send(method, path, body) {
  const response = await fetch(`/api/v1/${path}`, {
    method,
    headers: { ...headers(), "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return (await answered(response)).json();
}

export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

// Not an EventSource, which cannot send the token. Connects again by itself, later each time.
export async function live(hear, say) {
  for (let pause = 1; ; pause = Math.min(30, pause * 2)) {
    try {
      const response = await answered(await fetch("/api/v1/live", { headers: headers() }));
      say("live");
      pause = 1;
      await events(response.body, hear);
    } catch (error) {
      if (error instanceof Refused) return say("locked");
    }
    say("off");
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
}

async function events(body, hear) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) hear(JSON.parse(data.join("\n")));
    }
  }
}
