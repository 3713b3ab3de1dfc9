"""What comes in place of a passkey: it is refused in words, whatever it is."""

import json
import time

import pytest
from fido2.utils import websafe_encode

from accounts.tests import cast

pytestmark = pytest.mark.django_db
REFUSED = "This passkey was not accepted."
CLIENT = websafe_encode(b'{"type": "webauthn.get", "challenge": "", "origin": "http://testserver"}')
DEEP = websafe_encode(b"\x81" * 100_000)


def said(**more) -> dict:
    return {"id": "YQ", "rawId": "YQ", "type": "public-key", "response": {"clientDataJSON": CLIENT, **more}}


RUBBISH = [
    *({}, [], "x", 5, {"id": "x"}, {"id": "YQ", "rawId": "YQ", "response": None}),
    said(),
    said(clientDataJSON="e30", authenticatorData="AA", signature="AA", attestationObject="AA"),
    said(authenticatorData="AA", signature="AA", userHandle="MQ", attestationObject=""),
    said(authenticatorData=websafe_encode(bytes(37)), signature="AA", userHandle=None, attestationObject="oA"),
    said(authenticatorData=websafe_encode(bytes(37)), signature="AA", userHandle="_w", attestationObject=DEEP),
    said(authenticatorData=websafe_encode(bytes(37)), signature="AA", userHandle="OTk5OTk5OTk5OTk5OTk5OTk5OTk5"),
]


@pytest.fixture
def alice(client):
    """With a passkey, and signed in just now."""
    alice = cast.alice()
    cast.passkey(alice)
    client.force_login(alice)
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session["account_authentication_methods_user"] = str(alice.pk)
    session.save()
    return alice


def refuses(client, place: str, key: object) -> None:
    client.get(place)
    answer = client.post(place, {"credential": json.dumps(key)}, follow=True)
    assert answer.status_code < 500
    assert REFUSED in answer.text or "This field is required" in answer.text  # where it is empty


@pytest.mark.parametrize("key", RUBBISH)
def test_in_place_of_a_passkey_it_is_refused_at_sign_in(client, key):
    refuses(client, "/accounts/2fa/webauthn/login/", key)
    cast.passkey(cast.alice())
    client.post("/accounts/login/", {"login": "alice@example.com", "password": cast.PASSWORD})
    refuses(client, "/accounts/2fa/authenticate/", key)


@pytest.mark.parametrize("key", RUBBISH)
@pytest.mark.usefixtures("alice")
def test_in_place_of_a_passkey_it_is_refused_where_somebody_is_signed_in(client, key):
    refuses(client, "/accounts/2fa/webauthn/reauthenticate/", key)
    refuses(client, "/accounts/2fa/webauthn/add/", key)
