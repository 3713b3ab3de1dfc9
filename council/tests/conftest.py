from collections.abc import Iterator

import pytest

from bench.provider import Provider


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider(first_token_ms=1, tokens_per_second=0, tokens=20) as provider:
        yield provider


@pytest.fixture
def fake(_provider) -> Provider:
    """A provider on a real socket that has been asked nothing yet."""
    _provider.reset()
    return _provider
