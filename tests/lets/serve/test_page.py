"""The page in a real browser, where there is one."""

import os
import re
import shutil
import subprocess

import pytest

from tests.lets.serve.serving import running

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--virtual-time-budget=15000",
)


def browse(folder, url, *more):
    """The page's document after its scripts have run."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", *more, url]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=environment
    ).stdout


def test_pages_name_no_other_host(served):
    for path in ("/", "/docs"):
        status, text, headers = served.ask("GET", path)
        assert status == 200
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text.replace("http://www.w3.org", ""))
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "/* style */" not in text


def test_the_page_may_be_left_out():
    with running(page=False) as server:
        assert server.ask("GET", "/")[0] == 404
        assert server.post("/v1/compare", {"inputs": "red"})[0] in (404, 405)
        assert server.ask("GET", "/architecture.svg")[0] == 200


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_text_is_answered_in_the_browser(served, tmp_path):
    base = f"http://127.0.0.1:{served.server.port}"
    found = browse(tmp_path, f"{base}/#text=a%20red%20house&time", "--dump-dom")
    expected = served.engine(["a red house"], ["sentiment", "topic", "stars"])
    for name, output in expected.items():
        card = re.search(rf'<article class="card"><h3>{name}</h3>(.*?)</article>', found).group(1)
        if name == "stars":
            assert f">{float(output.scores[0]):.3f}<" in card
        else:
            assert f'class="answer">{output.labels[0]}<' in card
            assert f"{100 * float(output.scores[0]):.1f}%" in card
    assert "would take" in found
    assert "5 tokens, answered in" in found
    assert "Measured here and now, 5 tokens: one dense pass takes" in found
    drawing = re.search(r'<svg[^>]*class="lets-svg".*?</svg>', found, re.DOTALL).group(0)
    assert "<style>" not in drawing
    assert "topic, layer 2: f-cls" in drawing
    assert 'class="error"' not in found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_api_s_description_in_the_browser(served, tmp_path):
    found = browse(tmp_path, f"http://127.0.0.1:{served.server.port}/docs", "--dump-dom")
    for heading in ("POST /predict", "POST /v1/classify", "GET /info", "POST /{task}/predict"):
        assert f"<h2>{heading}</h2>" in found
    assert "curl http://127.0.0.1" in found
