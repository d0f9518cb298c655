// Operations over HTTP: one answer as JSON, a subscription as server-sent events. Needs no library.

const KEPT_ITEMS = 20; // of a stream, in the answer pane
const REFUSED = "The gateway refused this token. Is it the API token, and of this gateway?";

/** A fetcher for GraphiQL: the result, or an async iterable of results for a subscription. */
function makeFetcher(url, token, onRefused) {
  return async (operation, options = {}) => {
    const stop = new AbortController();
    const response = await fetch(url, {
      method: "POST",
      signal: stop.signal,
      headers: {
        "Content-Type": "application/json",
        Accept: isSubscription(operation, options) ? "text/event-stream" : "application/graphql-response+json",
        Authorization: `Bearer ${token}`,
        ...options.headers,
      },
      body: JSON.stringify(operation),
    });
    if (response.status === 401) {
      onRefused(REFUSED);
      throw new Error(REFUSED);
    }
    const type = response.headers.get("Content-Type") ?? "";
    if (type.startsWith("text/event-stream")) return stream(response, stop);
    if (type.includes("json")) return response.json();
    throw new Error(`The gateway answered ${response.status}: ${await response.text()}`);
  };
}

/** Whether the chosen operation of the document is a subscription. */
function isSubscription({ operationName }, { documentAST }) {
  const operations = (documentAST?.definitions ?? []).filter((one) => one.kind === "OperationDefinition");
  const chosen = operations.find((one) => one.name?.value === operationName) ?? operations[0];
  return chosen?.operation === "subscription";
}

/** The results of a stream; each shows the items before it, newest first. Ending the iteration closes the connection. */
function stream(response, stop) {
  const results = (async function* () {
    let earlier = [];
    try {
      for await (const result of events(response.body)) {
        yield earlier.length ? { ...result, extensions: { ...result.extensions, earlier } } : result;
        earlier = [result.data ?? result, ...earlier].slice(0, KEPT_ITEMS - 1);
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  })();
  const end = results.return.bind(results);
  results.return = (value) => {
    stop.abort(); // a generator that waits for the next event would not hear of its end before that event
    return end(value);
  };
  return results;
}

/** The data of each `next` event of a graphql-sse body, parsed. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const of = (field) => lines.filter((line) => line.startsWith(field)).map((line) => line.slice(field.length).trim());
      if (of("event:")[0] === "next") yield JSON.parse(of("data:").join("\n"));
    }
  }
}
