"""GraphiQL with example queries, served by the gateway itself: nothing comes from another host, nothing runs inline.

The page holds no secret: it asks for the API token, keeps it in the tab's session storage and sends it to this gateway.
"""

import hashlib
import html
import json
import secrets
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "graphiql"
STATIC = FOLDER / "static"
EXAMPLE_CUSTOMER = "sim-000001"
"""The first customer of the simulated bank; on other data the reader puts an own one into the variables."""


def examples() -> list[dict[str, str]]:
    """The tabs that GraphiQL opens with, in order: `query`, and `variables` (JSON) where the query takes any."""
    queries = [path.read_text() for path in sorted((FOLDER / "examples").glob("*.graphql"))]
    variables = json.dumps({"id": EXAMPLE_CUSTOMER}, indent=2)
    return [{"query": query, "variables": variables} if "$id" in query else {"query": query} for query in queries]


def assets_address() -> str:
    """Where the static files lie; names their content, so that a browser may keep them for ever."""
    digest = hashlib.sha256()
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(STATIC).as_posix()}:{len(content)}:".encode() + content)
    return f"/graphiql/assets/{digest.hexdigest()[:16]}"


def page_routes() -> list[BaseRoute]:
    """The page at `/` and `/graphiql`, and its files."""
    assets = assets_address()
    page = (FOLDER / "page.html").read_text().replace("{assets}", assets)
    # In a script element only "<" could end it early; JSON may write it as an escape.
    page = page.replace("{examples}", json.dumps(examples()).replace("<", "\\u003c"))

    async def graphiql(_request: Request) -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(page.replace("{nonce}", html.escape(nonce)), headers=page_headers(nonce))

    return [Mount(assets, ImmutableFiles(directory=STATIC)), Route("/", graphiql), Route("/graphiql", graphiql)]


def page_headers(nonce: str) -> dict[str, str]:
    """Only this gateway's own files run, style and are talked to; fonts and cursors come inside the style sheet."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' 'nonce-{nonce}'",
        "font-src": "data:",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


class ImmutableFiles(StaticFiles):
    """Files whose address changes with their content."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, to be kept for a year without asking again."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
