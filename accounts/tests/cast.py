"""Alice administers, Bob is a member, Stan is of the staff without being a superuser. They all know their passwords."""

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission

from accounts.models import User

PASSWORD = "a lighthouse, seven boats"


def alice() -> User:
    user = User.objects.create_superuser("alice@example.com", PASSWORD, name="Alice")
    return _with_second_factor(user)


def bob() -> User:
    user = User.objects.create_user("bob@example.com", PASSWORD, name="Bob")
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
