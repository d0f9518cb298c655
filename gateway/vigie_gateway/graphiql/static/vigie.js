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

function open(token) {
  sessionStorage.setItem(TOKEN, token);
  show(true);
  const fetcher = makeFetcher("/graphql", token, () => ask("The gateway refused this token. Is it the API token, and of this gateway?"));
  root = ReactDOM.createRoot(element("graphiql"));
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
  open(element("token").value.trim());
});
element("forget").addEventListener("click", () => ask());
element("examples-again").addEventListener("click", resetTabs);

const remembered = sessionStorage.getItem(TOKEN);
if (remembered) open(remembered);
else ask();
