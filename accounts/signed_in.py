"""Who is signed in, looked up with as little work as it takes: each page, and each question, waits for it.

As Django's own session store and allauth's own backend do it, but for the two SELECTs, which are put together once.
"""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts import roles
from accounts.models import User
from governance import rows

_LATER = timezone.now()
_SESSION = rows.prepared(lambda key, now: Session.objects.filter(session_key=key, expire_date__gt=now), "a key", _LATER)
_PERSON = rows.prepared(lambda key: User.objects.filter(pk=key), -1)


class SessionStore(DatabaseStore):
    """Sessions in the database."""

    def _get_session_from_db(self) -> Session | None:
        (found,) = rows.execute([_SESSION(self.session_key, timezone.now())])
        session = next(iter(rows.instances(Session, found.rows)), None)
        if session is None:
            self._session_key = None
        return session


class Backend(AuthenticationBackend):
    """Who a session is of."""

    def get_user(self, user_id: Any) -> User | None:
        """The person, if they may sign in."""
        found, rights = rows.execute([_PERSON(user_id), roles.statement(user_id)])
        person = next(iter(rows.instances(User, found.rows)), None)
        if person is None or not self.user_can_authenticate(person):
            return None
        person.rights = roles.read(rights)
        return person

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """As Django's own, from what was read together with the person; there are none for single objects."""
        if not user_obj.is_active or user_obj.is_anonymous or obj is not None:
            return set()
        return set(user_obj.rights)
