// What the page asks of the server; a refusal is an Error with the server's sentence and its status.

export const get = (path, query = {}) => ask(`${path}?${new URLSearchParams(query)}`, {});

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const urlOf = (path, query) => `${path}?${new URLSearchParams(query)}`;

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw refusal("The server does not answer. Is `compnet3d annotate` still running? Nothing that was saved is lost.", 0);
  }
  const answer = await response.json().catch(() => ({ detail: `the server answered with status ${response.status}` }));
  if (!response.ok) throw refusal(answer.detail, response.status);
  return answer;
}

const refusal = (text, status) => Object.assign(new Error(text), { status });
