"""The option that keeps new texts."""

import pytest
from command_line import nas  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-pins", action="store_true", help="Keep what is said now.")


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--renew-pins", default=False))
