from collections.abc import Callable, Iterator
from io import StringIO

import pytest
import stamina
from django.core.management import CommandError, call_command

from accounts.models import User
from bench.provider import Provider
from council.tests import roster_files, rosters


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
def hasty():
    """Retries without waiting."""
    stamina.set_testing(True, attempts=100)
    yield
    stamina.set_testing(False)


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


@pytest.fixture
def load(tmp_path, monkeypatch) -> Callable[..., str]:
    """Load a text as the file of a roster, whose key the environment has; returns what the command says."""
    monkeypatch.setenv("ACME_KEY", roster_files.KEY)

    def load(text: str | bytes, *options: str) -> str:
        file = tmp_path / "roster.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        output = StringIO()
        call_command("roster", "load", str(file), *options, stdout=output)
        return output.getvalue()

    return load


@pytest.fixture
def refused(load) -> Callable[..., str]:
    """Load one that is refused; returns why. Nothing is written."""

    def refused(text: str | bytes) -> str:
        before = roster_files.everything()
        with pytest.raises(CommandError) as caught:
            load(text)
        assert caught.value.returncode == 1
        assert roster_files.everything() == before
        assert "Nothing was changed." in str(caught.value)
        return str(caught.value)

    return refused
