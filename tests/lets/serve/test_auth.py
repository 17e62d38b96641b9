"""Keys: where they come from, and that nothing but /health is open."""

import base64
import re

import pytest
from fastapi import FastAPI
from lets.errors import LetsError
from lets.serve.settings import ServeSettings, read_key

from tests.lets.serve.serving import running

KEY, ADMIN = "a-public-key-0001", "an-admin-key-0001"


@pytest.fixture(scope="module")
def locked():
    with running(admin_port=0, api_key=KEY, admin_key=ADMIN) as server:
        yield server


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def routes(running, number):
    """(method, path) of all that a port's application has, whoever added it."""
    app = running.server._servers[number].config.app
    while not isinstance(app, FastAPI):
        app = app.app
    return [
        (method, re.sub(r"{\w+}", "topic", route.path))
        for route in app.routes
        for method in sorted(route.methods - {"HEAD"})
    ]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer(ADMIN),
        bearer(KEY[:-1]),
        bearer(KEY + "x"),
        {"authorization": KEY},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic " + base64.b64encode(KEY.encode()).decode()},
    ],
    ids=str,
)
def test_nothing_without_the_key(locked, headers):
    assert len(routes(locked, 0)) > 8
    for method, path in (*routes(locked, 0), ("GET", "/x")):
        status, _, answered = locked.ask(method, path, headers=headers)
        open_ = (method, path) == ("GET", "/health")
        assert (status, "www-authenticate" in answered) == ((200, False) if open_ else (401, True))


def test_with_the_key(locked):
    basic = {"authorization": "Basic " + base64.b64encode(b"me:" + KEY.encode()).decode()}
    for headers in (bearer(KEY), basic):
        assert locked.ask("GET", "/info", headers=headers)[0] == 200
        request = {"inputs": "red"}
        assert locked.ask("POST", "/topic/predict", request, headers=headers)[0] == 200


def test_admin_has_a_key_of_its_own(locked):
    for headers in ({}, bearer(KEY)):
        for method, path in routes(locked, 1):
            open_ = (method, path) == ("GET", "/health")
            assert locked.admin(method, path, headers=headers)[0] == (200 if open_ else 401), path
    assert locked.admin("GET", "/tasks", headers=bearer(ADMIN))[0] == 200
    assert locked.ask("GET", "/info", headers=bearer(ADMIN))[0] == 401


def test_admin_is_never_on_the_public_port(locked):
    own = set(routes(locked, 1)) - set(routes(locked, 0))
    assert {("POST", "/tasks"), ("PUT", "/tasks/topic"), ("DELETE", "/tasks/topic")} <= own
    for method, path in own:
        assert locked.ask(method, path, headers=bearer(KEY))[0] in (404, 405), path
        assert locked.ask(method, path, headers=bearer(ADMIN))[0] == 401, path
    assert "topic" in locked.engine.tasks


def test_keys_come_from_the_environment_or_a_file(tmp_path):
    assert read_key("LETS_API_KEY", None, {}) is None
    assert read_key("LETS_API_KEY", None, {"LETS_API_KEY": KEY}) == KEY
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    assert read_key("LETS_API_KEY", str(file), {}) == KEY
    with pytest.raises(LetsError, match="not both"):
        read_key("LETS_API_KEY", str(file), {"LETS_API_KEY": KEY})
    for bad in ("", "short", "with a space", "umläut-key"):
        file.write_text(bad)
        with pytest.raises(LetsError, match="at least 8 printable ASCII"):
            read_key("LETS_API_KEY", str(file), {})
    with pytest.raises(LetsError, match="at least 8 printable"):
        read_key("LETS_API_KEY", None, {"LETS_API_KEY": ""})  # set and empty is no wish for none
    with pytest.raises(LetsError, match="cannot be read"):
        read_key("LETS_API_KEY", str(tmp_path / "none"), {})


def test_settings_that_would_leave_something_open():
    with pytest.raises(LetsError, match="key of its own: set LETS_ADMIN_KEY"):
        ServeSettings(api_key=KEY, admin_port=9)
    with pytest.raises(LetsError, match=r"admin API on 0\.0\.0\.0 needs a key"):
        ServeSettings(admin_host="0.0.0.0", admin_port=9)
    with pytest.raises(LetsError, match="must be another one"):
        ServeSettings(port=9, admin_port=9)
    with pytest.raises(LetsError, match="max_queue must be positive, got 0"):
        ServeSettings(max_queue=0)
    with pytest.raises(LetsError, match="LETS_ADMIN_KEY must be another one than LETS_API_KEY"):
        ServeSettings(api_key=KEY, admin_key=KEY, admin_port=9)
    for name in ("api_key", "admin_key"):  # an empty one would be what nobody's header holds
        with pytest.raises(LetsError, match="at least 8 printable"):
            ServeSettings(**{name: ""})
    assert ServeSettings().host == "127.0.0.1"
    assert KEY not in repr(ServeSettings(api_key=KEY))
