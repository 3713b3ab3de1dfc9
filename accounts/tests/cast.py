"""Alice administers, Bob and Dora are members, Stan is of the staff without being a superuser.

They all know their passwords.
"""

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import Aaguid, AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

from accounts.models import User

PASSWORD = "a lighthouse, seven boats"


def alice() -> User:
    user = User.objects.create_superuser("alice@example.com", PASSWORD, name="Alice")
    return _with_second_factor(user)


def bob() -> User:
    user = User.objects.create_user("bob@example.com", PASSWORD, name="Bob")
    user.vouch_for_address()
    return user


def dora() -> User:
    user = User.objects.create_user("dora@example.com", PASSWORD, name="Dora")
    user.vouch_for_address()
    return user


def stan() -> User:
    user = User.objects.create_user("stan@example.com", PASSWORD, name="Stan", is_staff=True)
    user.vouch_for_address()
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_user", "add_user", "change_user")))
    return _with_second_factor(user)


def _with_second_factor(user: User) -> User:
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"})
    return user


def passkey(user: User) -> None:
    """Give this person a passkey, as a browser would hand it over; nobody has its private half."""
    key = ES256({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})
    credential = AttestedCredentialData.create(Aaguid.NONE, b"one", key)
    data = AuthenticatorData.create(bytes(32), AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT, 0, credential)
    client = CollectedClientData.create(CollectedClientData.TYPE.CREATE, b"challenge", "http://testserver")
    response = {
        "clientDataJSON": client.b64,
        "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
    }
    stored = {"id": websafe_encode(b"one"), "rawId": websafe_encode(b"one"), "type": "public-key", "response": response}
    Authenticator.objects.create(
        user=user, type=Authenticator.Type.WEBAUTHN, data={"name": "Key", "credential": stored}
    )
