"""Who is signed in, where there is no request that middleware has looked at; and the end of sessions."""

from collections.abc import Mapping
from importlib import import_module

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest

from accounts import sockets
from accounts.models import User

_store = import_module(settings.SESSION_ENGINE).SessionStore


def person_of(cookies: Mapping[str, str]) -> AbstractBaseUser | AnonymousUser:
    """The person whom pages would see with these cookies."""
    request = HttpRequest()
    request.session = _store(cookies.get(settings.SESSION_COOKIE_NAME))
    return get_user(request)


def end_all_of(person: User) -> None:
    """Sign somebody out everywhere; their open pages hear nothing more."""
    for session in UserSession.objects.filter(user=person):
        session.end()
    sockets.show_out(person.pk)
