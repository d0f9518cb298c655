"""The token, and pages of other origins."""

import pytest
from starlette.requests import Request
from vigie_contracts.errors import Forbidden, Unauthorized
from vigie_gateway.access import Access


def request(**headers: str) -> Request:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs})


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic right", "right"])
def test_anything_but_the_bearer_token_is_refused(given):
    with pytest.raises(Unauthorized, match="Authorization"):
        Access("right", ()).check_token(given)


def test_the_token_is_taken():
    Access("right", ()).check_token("bearer right")


def test_a_page_of_another_origin_is_refused_and_the_own_one_is_not():
    access = Access("right", ("https://front.example",))
    access.check_origin(request(host="127.0.0.1:8700"))
    access.check_origin(request(host="127.0.0.1:8700", origin="http://127.0.0.1:8700"))
    access.check_origin(request(host="127.0.0.1:8700", origin="https://front.example"))
    with pytest.raises(Forbidden, match="another origin"):
        access.check_origin(request(host="127.0.0.1:8700", origin="https://evil.example"))
    with pytest.raises(Forbidden):
        access.check_origin(request(host="127.0.0.1:8700", origin="null"))
