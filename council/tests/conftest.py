from collections.abc import Iterator

import pytest

from accounts.models import User
from bench.provider import Provider
from council.tests import rosters


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider(first_token_ms=1, tokens_per_second=0, tokens=20) as provider:
        yield provider


@pytest.fixture
def fake(_provider) -> Provider:
    """A provider on a real socket that has been asked nothing yet."""
    _provider.reset()
    return _provider


@pytest.fixture
def admin(client):
    """The browser of an administrator who has signed in."""
    client.force_login(User.objects.create_superuser("admin@example.org", "correct horse battery"))
    return client


@pytest.fixture
def provider():
    return rosters.provider()


@pytest.fixture
def council(provider):
    return rosters.council(provider)
