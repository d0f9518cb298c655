"""The query page that the gateway serves itself: plain, works without the internet, asks for the token, has examples.

GraphiQL's usual page loads its scripts from a content network; a bank's machine may not reach one.
"""

import json
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse

EXAMPLES: dict[str, str] = {
    "Customers at risk": """{
  customers(first: 5, filter: { bands: [MEDIUM, HIGH, CRITICAL] }) {
    totalCount
    edges { node {
      externalId
      profile { displayName }
      churn { __typename ... on ChurnScore { probability band reasons(first: 3) { text direction } } }
      nextBestOffers { __typename ... on OfferRanking { offers { rank offer { title } priority } } }
    } }
    pageInfo { hasNextPage endCursor }
  }
}""",
    "One customer": """query Card($id: String!) {
  customer(by: { externalId: $id }) {
    id
    profile { displayName customerSince attributes { name text number } consents { purpose granted } }
    identities { namespace value linkedAt }
    supportModel { key because }
    engagement(window: D30) { score activeDays trend microConversions { label count previousCount } }
    churn {
      ... on ChurnScore { probability band reasons { text(locale: FR) contribution } }
      ... on ScoreUnavailable { message }
    }
    segments { edges { node { since segment { key name } } } }
    timeline(first: 10) { edges { node { occurredAt summary } } }
  }
}""",
    "Segments": "{ segments(first: 50) { edges { node { key name family size definition } } } }",
    "Why not that offer": """query Why($id: String!) {
  customer(by: { externalId: $id }) {
    nextBestOffers(first: 6) {
      ... on OfferRanking {
        offers { rank offer { code } propensity context value lever priority }
        rejected { offer { code } text detail }
      }
      ... on OfferUnavailable { message rejected { offer { code } text detail } }
    }
  }
}""",
    "Score updates (live)": """subscription {
  scoreUpdated {
    __typename
    ... on ScoreUpdate { cursor customer { externalId } current { ... on ChurnScore { probability band } } }
    ... on StreamHeartbeat { cursor at }
  }
}""",
}


async def query_page(_request: Request) -> HTMLResponse:
    """The page; it holds no secret."""
    html = resources.files("vigie_gateway").joinpath("page.html").read_text()
    return HTMLResponse(html.replace("/*EXAMPLES*/{}", json.dumps(EXAMPLES)))
