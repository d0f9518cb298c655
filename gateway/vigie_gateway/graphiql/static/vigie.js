// The page: asks for the API token, then shows GraphiQL with the example queries. Token and tabs live as long as the tab.

globalThis.__webpack_nonce__ = document.currentScript.dataset.nonce; // for the one style element that a dialog of GraphiQL adds

const TOKEN = "vigie-token";
const element = (id) => document.getElementById(id);
const examples = JSON.parse(element("examples").textContent);
let root = null;

function ask(problem = "") {
  root?.unmount();
  root = null;
  sessionStorage.removeItem(TOKEN);
  element("problem").textContent = problem;
  element("token").value = "";
  show(false);
  element("token").focus();
}

/** Opens GraphiQL once the gateway takes the token; one that it refuses must leave nothing in the tabs that are kept. */
async function connect(token) {
  element("submit").disabled = true;
  try {
    await makeFetcher("/graphql", token, () => {})({ query: "{ __typename }" });
    open(token);
  } catch (error) {
    ask(error.message);
  }
  element("submit").disabled = false;
}

function open(token) {
  sessionStorage.setItem(TOKEN, token);
  show(true);
  const opened = ReactDOM.createRoot(element("graphiql"));
  const fetcher = makeFetcher("/graphql", token, (problem) => {
    if (root === opened) ask(problem); // not for an answer that comes after it was closed
  });
  root = opened;
  root.render(
    React.createElement(
      GraphiQL,
      {
        fetcher,
        defaultTabs: examples,
        defaultEditorToolsVisibility: "variables",
        storage: sessionStorage,
        showPersistHeadersSettings: false, // a token typed there is not stored
      },
      React.createElement(GraphiQL.Logo, null, "GraphiQL"),
    ),
  );
}

function show(connected) {
  element("ask").hidden = connected;
  element("graphiql").hidden = !connected;
  element("connected").hidden = !connected;
}

function resetTabs() {
  const token = sessionStorage.getItem(TOKEN);
  root.unmount();
  sessionStorage.clear();
  open(token);
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  void connect(element("token").value.trim());
});
element("forget").addEventListener("click", () => ask());
element("examples-again").addEventListener("click", resetTabs);

const remembered = sessionStorage.getItem(TOKEN);
if (remembered) open(remembered);
else ask();
