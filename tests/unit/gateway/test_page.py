"""GraphiQL: its examples hold, its files are the released ones, nothing comes from elsewhere, a wheel has it all."""

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import zipfile

import httpx
import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate
from starlette.applications import Starlette
from vigie_gateway import page
from vigie_gateway.app import create_app
from vigie_gateway.schema import printed
from vigie_gateway.settings import Settings
from vigie_kit import installation

VENDOR = page.STATIC / "vendor"
SCHEMA = build_schema(printed())


def get(app: Starlette, *paths: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def served() -> Starlette:
    return Starlette(routes=page.page_routes())


def name_of(example: dict[str, str]) -> str:
    return re.search(r"^(?:query|subscription) (\w+)", example["query"], re.MULTILINE)[1]


def test_the_examples_open_in_their_order_under_their_names():
    names = [name_of(one) for one in page.examples()]
    assert names == ["CustomersAtRisk", "OneCustomer", "Segments", "WhyNotThatOffer", "LiveScores"]


@pytest.mark.parametrize("example", page.examples(), ids=name_of)
def test_an_example_is_valid_and_its_variables_are_given(example):
    document = parse(example["query"])
    assert validate(SCHEMA, document) == []
    (operation,) = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    wanted = {one.variable.name.value for one in operation.variable_definitions}
    assert set(json.loads(example.get("variables", "{}"))) == wanted


def test_the_vendored_files_are_the_ones_that_were_released():
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    found = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in VENDOR.iterdir()
        if path.name != "manifest.json"
    }
    assert found == manifest["files"]
    for name, version in manifest["releases"].items():
        assert f"{name} {version}" in (VENDOR / "LICENCES.txt").read_text()
        assert f"{name} {version}" in (page.FOLDER / "README.md").read_text()


def test_the_page_names_only_files_that_this_gateway_serves(served):
    first, second = get(served, "/", "/graphiql")
    addresses = [one for one in re.findall(r'(?:src|href)="([^"]+)"', first.text) if one != "data:,"]
    assert len(addresses) == 7
    answers = get(served, *addresses)
    assert [answer.status_code for answer in answers] == [200] * 7
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=31536000, immutable"}
    assert re.sub(r'data-nonce="[^"]+"', "", first.text) == re.sub(r'data-nonce="[^"]+"', "", second.text)


def test_the_policy_lets_only_the_gateways_own_files_run(served):
    answers = get(served, "/", "/")
    nonces = [re.search(r'data-nonce="([^"]+)"', answer.text)[1] for answer in answers]
    assert nonces[0] != nonces[1]
    assert [answer.headers["content-security-policy"] for answer in answers] == [
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; font-src data:; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        for nonce in nonces
    ]
    assert answers[0].headers["cache-control"] == "no-store"
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", answers[0].text, re.DOTALL)
    assert [attributes for attributes, content in scripts if content] == [' type="application/json" id="examples"']


def test_the_examples_arrive_in_the_page_as_they_are(served):
    (answer,) = get(served, "/")
    block = re.search(r'id="examples">(.*?)</script>', answer.text, re.DOTALL)[1]
    assert json.loads(block) == page.examples()


@pytest.mark.parametrize(("wanted", "status"), [(True, 200), (False, 404)])
def test_the_page_is_served_only_where_the_settings_allow(tmp_path, feature_repo, wanted, status):
    installation.create(tmp_path)
    settings = Settings(
        data=tmp_path, feature_repo=feature_repo, service_token="internal", api_token="right", page=wanted,
        ingest_url="http://127.0.0.1:1", features_url="http://127.0.0.1:1", scoring_url="http://127.0.0.1:1",
    )  # fmt: skip
    paths = ("/", "/graphiql", f"{page.assets_address()}/vigie.js")
    assert [answer.status_code for answer in get(create_app(settings), *paths)] == [status] * 3


def test_a_built_wheel_holds_every_file_of_the_page(repository, tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=repository / "gateway", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    wanted = {
        f"vigie_gateway/graphiql/{path.relative_to(page.FOLDER).as_posix()}": path.read_bytes()
        for path in page.FOLDER.rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if name in wanted} == wanted
