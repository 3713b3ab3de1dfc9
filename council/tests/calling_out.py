"""Calls, and somebody who observes them, for the tests of one call."""

from council.core.values import Request
from council.providers import calling, connecting
from council.providers.calling import Deadlines, Way
from council.providers.chat import Endpoint
from council.providers.policy import Policy
from council.tests.making import until

KEY = "sk-secret-0123456789"
ASK = Request(({"role": "user", "content": "Why?"},), 300)
SCHEMA = {"type": "object", "properties": {"critique": {"type": "string"}, "reason": {"type": "string"}}}
PATIENT = Deadlines(first_token=10, between_tokens=10, call=20)


class Observer:
    """Keeps what a call tells, and that it tells it in order."""

    def __init__(self):
        self.endpoint = None
        self.policy = Policy()
        self.attempts = []
        self.begun = []
        self.grown = []
        self.thinking = 0
        self.open = False

    async def sending(self):
        assert not self.open
        self.open = True
        return Way(self.endpoint, self.policy)

    def began(self, attempt):
        assert self.open
        self.begun.append((attempt.generation, attempt.first_token is not None))

    def grew(self, text):
        assert self.open
        self.grown.append(text)
        self.thinking += not text

    async def ended(self, attempt):
        assert self.open
        self.open = False
        self.attempts.append(attempt)


async def call(url, request=ASK, deadlines=PATIENT, observer=None, repeats=1, **endpoint):
    """The last attempt, and who observed."""
    observer = observer or Observer()
    given = {
        "base_url": url,
        "api_key": KEY,
        "kind": "compatible",
        "model_id": "fake/alpha",
        "private": True,
        **endpoint,
    }
    observer.endpoint = Endpoint(**given)
    async with connecting.new_transport() as transport:
        attempt = await calling.call(transport, request, deadlines, observer, repeats=repeats)
    assert not observer.open
    assert attempt is observer.attempts[-1]
    assert attempt.text == "".join(observer.grown)
    assert KEY not in attempt.error
    assert KEY not in repr(attempt)
    return attempt, observer


async def gone(fake):
    """Wait until the provider has seen its client leave."""
    await until(lambda: fake.requests()[0]["disconnected"])
