import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")


@pytest.fixture(scope="package")
def served():
    """One server for all tests that change nothing."""
    from tests.lets.serve.serving import running

    with running(admin_port=0) as server:
        yield server
