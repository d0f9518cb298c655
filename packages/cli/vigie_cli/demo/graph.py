"""The demo as a client of the graph: the query it prints, and the subscription it listens to (graphql-sse)."""

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import httpx
import msgspec
from vigie_contracts.errors import Unavailable

AT_RISK = """query CustomersAtRisk($first: Int!) {
  customers(first: $first, filter: { bands: [HIGH, CRITICAL] }, orderBy: { field: CHURN_PROBABILITY }) {
    totalCount
    edges {
      node {
        externalId
        profile { displayName }
        churn {
          __typename
          ... on ChurnScore {
            probability
            band
            reasons(first: 3) { text direction }
          }
          ... on ScoreUnavailable { reason message }
        }
        nextBestOffers(first: 2) {
          __typename
          ... on OfferRanking { offers { rank offer { code title } propensity priority } }
          ... on OfferUnavailable { reason message }
        }
      }
    }
  }
}"""

UPDATES = """subscription {
  scoreUpdated {
    __typename
    ... on ScoreUpdate {
      customer { externalId }
      previous { ... on ChurnScore { probability band } }
      current {
        ... on ChurnScore { probability band reasons(first: 1) { text } }
        ... on ScoreUnavailable { reason }
      }
    }
  }
}"""


class Graph:
    """A GraphQL client with the demo's API token."""

    def __init__(self, gateway: str, token: str) -> None:
        self._url = f"{gateway}/graphql"
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer; Unavailable when it holds no data."""
        try:
            answer = httpx.post(
                self._url,
                json={"query": query, "variables": variables},
                headers=self._headers,
                timeout=60,
                trust_env=False,
            ).json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self._url} did not answer the query ({type(error).__name__})") from error
        if answer.get("data") is None:
            raise Unavailable(f"the graph refused the query: {answer.get('errors')}")
        found: dict[str, Any] = answer
        return found

    def subscribe(self, query: str) -> Iterator[dict[str, Any]]:
        """The `data` of each item, until the server ends the stream."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        timeout = httpx.Timeout(10.0, read=None)
        with httpx.stream(
            "POST", self._url, json={"query": query}, headers=headers, timeout=timeout, trust_env=False
        ) as response:
            if response.status_code != 200:
                raise Unavailable(f"{self._url} refused the subscription with {response.status_code}")
            yield from items(response.iter_lines())


class Updates:
    """Score updates as they arrive, read by a thread of its own."""

    def __init__(self, graph: Graph) -> None:
        self.queue: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._listen, args=(graph,), name="updates", daemon=True)
        self._thread.start()

    def _listen(self, graph: Graph) -> None:
        try:
            for data in graph.subscribe(UPDATES):
                item = data["scoreUpdated"]
                if item["__typename"] == "ScoreUpdate":
                    self.queue.put(item)
        except (httpx.HTTPError, Unavailable) as error:
            self.problem = str(error) or type(error).__name__


def items(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The `data` of each `next` event of a graphql-sse stream; Unavailable when one holds errors."""
    event = ""
    for line in lines:
        if line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:") and event == "next":
            answer = msgspec.json.decode(line.removeprefix("data:").strip())
            if answer.get("data") is None:
                raise Unavailable(f"the subscription answered: {answer.get('errors')}")
            yield answer["data"]
        elif event == "complete":
            return
