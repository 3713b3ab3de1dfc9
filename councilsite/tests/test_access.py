"""The access matrix: every address of the site and every socket, tried as each kind of person.

The addresses come from the resolver. One that is not in the tables below fails, so that nobody adds a page without
saying who may see it; one that is listed and no longer there fails too.
"""

import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts import roles, signing_up
from accounts.models import Invitation, Limit, SiteSettings, User
from accounts.roles import Role
from conversations import asking, sharing
from conversations.models import Conversation, Share, Turn
from conversations.tests import cast
from council.models import Breaker, Call, CallPolicy, Council, Deliberation, LanguageModel, Provider
from councilsite import asgi
from councilsite.tests.test_front import assert_strict
from governance.models import Event, Tally

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30  # seconds

QUESTION = "Where does the grey heron sleep?"

IN, LOGIN, REFUSED, MISSING = "in", "to sign in", "refused", "not found"
"""What somebody meets: the page, or what it does; the page to sign in; a 403; a 404."""


class Rule(NamedTuple):
    """What each kind of person meets. Whoever "shared with" is has opened a link to the conversation.

    Members are the first three who have signed in, and staff without any right in the administration.
    """

    anonymous: str
    another: str
    shared_with: str
    owner: str
    staff: str
    auditor: str
    administrator: str
    superuser: str


ANYONE = Rule(*[IN] * 8)
SIGNED_IN = Rule(LOGIN, *[IN] * 7)
WHO_MAY_ASK = SIGNED_IN._replace(auditor=REFUSED)
OWNER = Rule(LOGIN, MISSING, MISSING, IN, *[MISSING] * 4)
OWNER_WHO_MAY = OWNER._replace(auditor=REFUSED)
STAFF = Rule(*[LOGIN] * 4, *[IN] * 4)
READERS = Rule(*[LOGIN] * 4, REFUSED, IN, IN, IN)
ADMINISTRATOR = Rule(*[LOGIN] * 4, REFUSED, REFUSED, IN, IN)
SUPERUSER = Rule(*[LOGIN] * 4, REFUSED, REFUSED, REFUSED, IN)
NOT_EVEN_THEY = Rule(*[LOGIN] * 4, *[REFUSED] * 4)
NOTHING_THERE = Rule(*[MISSING] * 8)


class Methods(NamedTuple):
    """The rules of an address for reading and for writing; None: the method is not allowed."""

    get: Rule | None
    post: Rule | None


def both(rule: Rule) -> Methods:
    return Methods(rule, rule)


def read(rule: Rule) -> Methods:
    return Methods(rule, None)


def write(rule: Rule) -> Methods:
    return Methods(None, rule)


CONVERSATIONS = {
    "": both(SIGNED_IN),
    "history/": read(SIGNED_IN),
    "c/<uuid:conversation_id>/": both(OWNER),
    "c/<uuid:conversation_id>/changes/": read(OWNER),
    "c/<uuid:conversation_id>/calls/<int:turn>/": read(OWNER),
    "c/<uuid:conversation_id>/export.md": read(OWNER_WHO_MAY),
    "c/<uuid:conversation_id>/export.json": read(OWNER_WHO_MAY),
    "c/<uuid:conversation_id>/share/": both(OWNER_WHO_MAY),
    "s/<str:token>/": read(SIGNED_IN),
    "s/<str:token>/changes/": read(SIGNED_IN),
    "s/<str:token>/calls/<int:turn>/": read(SIGNED_IN),
    "s/<str:token>/copy/": both(WHO_MAY_ASK),
    "settings/links/": read(SIGNED_IN),
    "settings/links/revoke/": write(SIGNED_IN),
    "c/<uuid:conversation_id>/stop/": write(OWNER),
    "c/<uuid:conversation_id>/retry/": write(OWNER_WHO_MAY),
    "c/<uuid:conversation_id>/rename/": write(OWNER),
    "c/<uuid:conversation_id>/delete/": write(OWNER),
    "c/<uuid:conversation_id>/restore/": write(OWNER),
}

ACCOUNTS = {
    "settings/": both(SIGNED_IN),
    "settings/theme/": write(ANYONE),
    "settings/shortcuts/": write(ANYONE),
    "settings/sessions/<int:session_id>/end/": write(OWNER),
    "join/<str:token>/": both(ANYONE),
    "signup/<str:token>/": both(ANYONE),
    "setup/done/": both(SIGNED_IN),
    "setup/<str:token>/": both(NOTHING_THERE),
    "accounts/login/": both(ANYONE),
    "accounts/logout/": Methods(SIGNED_IN, Rule(*[LOGIN] * 8)),
    "accounts/inactive/": read(ANYONE),
    "accounts/signup/": both(ANYONE),
    "accounts/reauthenticate/": both(SIGNED_IN),
    "accounts/email/": both(SIGNED_IN),
    "accounts/confirm-email/": read(ANYONE),
    "accounts/password/change/": both(SIGNED_IN),
    "accounts/password/set/": both(SIGNED_IN),
    "accounts/password/reset/": both(ANYONE),
    "accounts/login/code/confirm/": both(SIGNED_IN),
    "accounts/confirm-email/(?P<key>[-:\\w]+)/": Methods(ANYONE, NOTHING_THERE),
    "accounts/password/reset/key/done/": read(ANYONE),
    "accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/": both(ANYONE),
    "accounts/password/reset/done/": read(ANYONE),
    "accounts/2fa/": read(SIGNED_IN),
    "accounts/2fa/authenticate/": both(SIGNED_IN),
    "accounts/2fa/reauthenticate/": both(SIGNED_IN),
    "accounts/2fa/totp/activate/": both(SIGNED_IN),
    # Stan of the staff is the one who has a second factor, and nobody here has recovery codes.
    "accounts/2fa/totp/deactivate/": both(Rule(LOGIN, *[MISSING] * 3, IN, *[MISSING] * 3)),
    "accounts/2fa/recovery-codes/": read(Rule(LOGIN, *[MISSING] * 7)),
    "accounts/2fa/recovery-codes/generate/": both(SIGNED_IN),
    "accounts/2fa/recovery-codes/download/": both(Rule(LOGIN, *[MISSING] * 7)),
    "accounts/2fa/webauthn/": read(SIGNED_IN),
    "accounts/2fa/webauthn/add/": both(SIGNED_IN),
    "accounts/2fa/webauthn/reauthenticate/": both(SIGNED_IN),
    "accounts/2fa/webauthn/keys/<int:pk>/remove/": both(SIGNED_IN),
    "accounts/2fa/webauthn/keys/<int:pk>/edit/": both(SIGNED_IN),
    "accounts/2fa/webauthn/login/": both(SIGNED_IN),
    "accounts/sessions/": both(SIGNED_IN),
}

ADMIN = {
    "admin/": both(STAFF),
    "admin/login/": both(Rule(LOGIN, *[REFUSED] * 3, *[IN] * 4)),
    "admin/logout/": Methods(ANYONE, Rule(*[IN] * 4, *[LOGIN] * 4)),
    "admin/password_change/": both(STAFF),
    "admin/password_change/done/": read(STAFF),
    "admin/autocomplete/": read(NOT_EVEN_THEY),  # without saying for which field
    "admin/jsi18n/": read(STAFF),
    "admin/r/<path:content_type_id>/<path:object_id>/": both(Rule(*[LOGIN] * 4, *[MISSING] * 4)),
    "admin/(?P<app_label>…)/": both(Rule(*[LOGIN] * 4, MISSING, IN, IN, IN)),
    "admin/(?P<url>.*)": both(Rule(*[LOGIN] * 4, *[MISSING] * 4)),
    "admin/accounts/user/<id>/password/": both(SUPERUSER),
    "admin/conversations/conversation/<uuid:key>/read/": both(NOT_EVEN_THEY),  # it has to be given
    "admin/governance/event/verify/": write(READERS),
    "admin/governance/event/head/": write(READERS),
}

ADDED, CHANGED, DELETED = "added", "changed", "deleted"
ADMINISTERED = {
    "auth/group": (SUPERUSER, SUPERUSER, {ADDED, CHANGED, DELETED}),
    "accounts/user": (READERS, ADMINISTRATOR, {ADDED, CHANGED}),
    "accounts/invitation": (ADMINISTRATOR, ADMINISTRATOR, {ADDED}),
    "accounts/limit": (SUPERUSER, SUPERUSER, {ADDED, CHANGED, DELETED}),
    "accounts/sitesettings": (READERS, ADMINISTRATOR, {CHANGED}),
    "mfa/authenticator": (SUPERUSER, SUPERUSER, {DELETED}),
    "council/council": (READERS, ADMINISTRATOR, {ADDED, CHANGED, DELETED}),
    "council/languagemodel": (READERS, ADMINISTRATOR, {ADDED, CHANGED, DELETED}),
    "council/provider": (READERS, ADMINISTRATOR, {ADDED, CHANGED, DELETED}),
    "conversations/conversation": (READERS, ADMINISTRATOR, set()),
    "conversations/share": (READERS, ADMINISTRATOR, set()),
    "council/deliberation": (READERS, ADMINISTRATOR, set()),
    "council/call": (READERS, ADMINISTRATOR, set()),
    "council/breaker": (READERS, ADMINISTRATOR, set()),
    "council/callpolicy": (READERS, ADMINISTRATOR, {CHANGED}),
    "governance/event": (READERS, ADMINISTRATOR, set()),
    "procrastinate/procrastinatejob": (SUPERUSER, SUPERUSER, set()),
}
"""Of rows of each kind: who looks at them, who does something with them, and what can be done at all."""


def administered() -> Iterator[tuple[str, Methods]]:
    for name, (readers, keepers, allowed) in ADMINISTERED.items():
        place = f"admin/{name}/"

        def only(what: str, keepers: Rule = keepers, allowed: set[str] = allowed) -> Rule:
            return keepers if what in allowed else NOT_EVEN_THEY

        yield place, both(readers)
        yield f"{place}add/", both(only(ADDED))
        yield f"{place}<path:object_id>/", both(STAFF)  # leads on to the next
        yield f"{place}<path:object_id>/change/", Methods(readers, only(CHANGED))
        yield f"{place}<path:object_id>/delete/", both(only(DELETED))
        yield f"{place}<path:object_id>/history/", both(readers)


MATRIX = {**CONVERSATIONS, **ACCOUNTS, **ADMIN, **dict(administered())}

SHOWN_OUT = "shown out"
SOCKETS = {
    "ws/s/<str:token>/": Rule(SHOWN_OUT, *[IN] * 7),
    "ws/c/<uuid:conversation_id>/": Rule(*[SHOWN_OUT] * 3, IN, *[SHOWN_OUT] * 4),
}


@dataclass
class World:
    """Alice's conversation, in which something was answered, and all who come by."""

    people: dict[str, User | None]
    conversation: Conversation
    deleted: Conversation

    def fill(self, name: str, place: str) -> object:
        """What stands in for a part of an address."""
        match name:
            case "conversation_id":
                return self.deleted.pk if place.endswith("restore/") else self.conversation.pk
            case "key" if place.startswith("admin/conversations/"):
                return self.conversation.pk
            case "token" if place in TOKENS:
                return TOKENS[place]()
            case "turn":
                return self.conversation.turns.get().pk
            case "session_id":
                return UserSession.objects.get().pk
            case "object_id" | "id":
                return OBJECTS.get(place.split("/")[2], OBJECTS[""])(self)
            case _:
                return PARTS[name]


PARTS = {
    "token": "no-such-token",
    "content_type_id": "1",
    "app_label": "accounts",
    "url": "no-such-page",
    "key": "no-such-key",
    "uidb36": "1",
    "pk": "1",
}

TOKENS = {
    **dict.fromkeys(
        (
            "s/<str:token>/",
            "s/<str:token>/changes/",
            "s/<str:token>/calls/<int:turn>/",
            "s/<str:token>/copy/",
            "ws/s/<str:token>/",
        ),
        lambda: sharing.token_of(Share.objects.get()),
    ),
    "join/<str:token>/": lambda: Invitation.objects.get().token,
    "signup/<str:token>/": lambda: signing_up.link("eve@example.org").split("/")[-2],
}

OBJECTS = {
    "group": lambda _: Group.objects.get(name="Editors").pk,
    "limit": lambda _: Limit.objects.get().pk,
    "event": lambda _: Event.objects.first().pk,
    "procrastinatejob": lambda _: ProcrastinateJob.objects.latest("pk").pk,
    "council": lambda _: Council.objects.get().pk,
    "languagemodel": lambda _: LanguageModel.objects.first().pk,
    "provider": lambda _: Provider.objects.get().pk,
    "deliberation": lambda _: Deliberation.objects.first().pk,
    "call": lambda _: Call.objects.first().pk,
    "user": lambda world: world.people["another"].pk,
    "authenticator": lambda _: Authenticator.objects.first().pk,
    "invitation": lambda _: Invitation.objects.get().pk,
    "share": lambda _: Share.objects.get().pk,
    "callpolicy": lambda _: CallPolicy.objects.get().pk,
    "breaker": lambda _: Breaker.objects.get().pk,
    "sitesettings": lambda _: SiteSettings.objects.get().pk,
    "": lambda world: world.conversation.pk,
}


@pytest.fixture
def world() -> World:
    council = cast.council()
    alice = cast.alice()
    staff = User.objects.create_user("stan@example.org", "correct horse battery", is_staff=True)
    people = {
        "anonymous": None,
        "another": cast.bob(),
        "shared_with": User.objects.create_user("carol@example.org", "correct horse battery"),
        "owner": alice,
        "staff": staff,
        "auditor": of_role(Role.AUDITOR),
        "administrator": of_role(Role.ADMINISTRATOR),
        "superuser": User.objects.create_superuser("root@example.org", "correct horse battery"),
    }
    asked = [asking.ask(alice, QUESTION, council).conversation for _ in range(2)]
    Deliberation.objects.update(status="complete", revision=3)
    Conversation.objects.filter(pk=asked[1].pk).update(deleted=timezone.now() - timedelta(days=1))
    model = LanguageModel.objects.first()
    deliberation = Deliberation.objects.first()
    Call.objects.create(
        deliberation=deliberation,
        purpose="answer",
        language_model=model,
        model_name="M",
        provider_name="P",
        fence=1,
        sent=timezone.now(),
    )
    sharing.save(asked[0], Share.Audience.TEAM, None, live=True)
    Group.objects.create(name="Editors")
    Limit.objects.create(what="asks", amount=1000, seconds=60)
    UserSession.objects.create(user=alice, ip="127.0.0.1", user_agent="A browser", session_key="of-hers")
    SiteSettings.objects.create(pk=1, signup="open")
    CallPolicy.objects.create(pk=1)
    Breaker.objects.create(language_model=model)
    expires = timezone.now() + timedelta(days=1)
    Invitation.objects.create(email="dave@example.org", expires=expires, created_by=people["superuser"])
    Authenticator.objects.create(user=staff, type=Authenticator.Type.TOTP, data={"secret": "JBSWY3DPEHPK3PXP"})
    return World(people, *asked)


def of_role(role: Role) -> User:
    person = User.objects.create_user(f"{role}@example.org", "correct horse battery", is_staff=True)
    person.groups.set([roles.group(role)])
    return person


def addresses() -> Iterator[str]:
    """Every address of the resolver, as its pattern."""

    def walk(patterns, before: str = "") -> Iterator[str]:
        for each in patterns:
            place = before + str(each.pattern)
            if isinstance(each, URLResolver):
                yield from walk(each.url_patterns, place)
            else:
                assert isinstance(each, URLPattern)
                place = place.replace("^", "").removesuffix("$")
                yield re.sub(r"(?<=P<app_label>).*(?=\)/)", "…", place)  # the names of all apps

    return walk(get_resolver().url_patterns)


def test_no_address_and_no_socket_is_unlisted():
    assert set(addresses()) == set(MATRIX)
    router = asgi.protocols.application_mapping["websocket"].application.inner
    *sockets, rest = router.routes
    assert {str(each.pattern) for each in sockets} == set(SOCKETS)
    assert (str(rest.pattern), rest.callback) == ("", asgi.refuse)


def filled(place: str, world: World) -> str:
    """The address, with something in the place of each of its parts."""
    part = r"\(\?P<(\w+)>(?:…|[^()])*\)|<(?:\w+:)?(\w+)>"
    return "/" + re.sub(part, lambda found: str(world.fill(found[1] or found[2], place)), place)


@pytest.mark.parametrize("who", Rule._fields)
def test_each_address_lets_in_whom_it_should(world, who):
    try_all(world, who, MATRIX, set(Rule._fields) - {"anonymous"})


def test_each_try_at_what_is_somebody_elses_is_counted(world):
    client = Client()
    client.force_login(world.people["another"])
    tried: Counter[str] = Counter()
    for place, methods in MATRIX.items():
        for method, rule in methods._asdict().items():
            if rule in {OWNER, OWNER_WHO_MAY}:
                assert getattr(client, method)(filled(place, world)).status_code == 404
                tried[place] += 1
    counted: Counter[str] = Counter()
    for each in Tally.objects.filter(kind="refused", object_type="page"):
        counted[each.object_id] += each.count
    assert counted == tried


@pytest.mark.parametrize("who", Rule._fields)
def test_each_address_of_a_link_for_anyone_lets_in_whom_it_should(world, who):
    share_with_anyone(world)
    try_all(world, who, OF_A_LINK_FOR_ANYONE, set(Rule._fields))


def share_with_anyone(world: World) -> None:
    SiteSettings.objects.update(public_links=True)
    sharing.save(world.conversation, Share.Audience.ANYONE, None, live=False)


def try_all(world: World, who: str, matrix: dict[str, Methods], readers: set[str]) -> None:
    """Try each address: who reads the conversation, and that nobody but its owner changes what is the owner's."""
    client = Client()
    if world.people[who]:
        client.force_login(world.people[who])
    cookies = deepcopy(client.cookies)
    met, expected = {}, {}
    before = rows_of_the_owner(world)
    for place, methods in matrix.items():
        for method, rule in methods._asdict().items():
            client.cookies = deepcopy(cookies)
            address = filled(place, world)
            with transaction.atomic():  # what one does the next does not meet
                response = getattr(client, method)(address)
                if who != "owner" and method == "post":
                    assert rows_of_the_owner(world) == before, (method, place)
                transaction.set_rollback(True)
            assert_guarded(response, place)
            if who not in (readers if place in OF_THE_CONVERSATION else {"owner"}):
                assert QUESTION not in response.content.decode(), place
            if rule is not None:
                met[method, place] = outcome(response)
                expected[method, place] = getattr(rule, who)
            else:
                assert response.status_code != 200, (method, place)
    assert met == expected


def assert_guarded(response, place: str) -> None:
    """What a browser is told of every page: to load nothing foreign, to guess no type, to tell others no address."""
    assert "Content-Security-Policy" in response, place
    assert_strict(response["Content-Security-Policy"])
    assert response.get("X-Content-Type-Options") == "nosniff", place
    assert response.get("Referrer-Policy") in {"same-origin", "no-referrer"}, place


OF_THE_CONVERSATION = (
    "s/<str:token>/",
    "s/<str:token>/changes/",
    "s/<str:token>/calls/<int:turn>/",
    "s/<str:token>/copy/",
)
"""Where others than its owner may read of the conversation."""

OF_A_LINK_FOR_ANYONE = {
    **dict.fromkeys(OF_THE_CONVERSATION, read(ANYONE)),
    "s/<str:token>/copy/": both(WHO_MAY_ASK),
}


def rows_of_the_owner(world: World) -> dict[str, list]:
    """All that is the owner's, but how often others opened it, and when she signed in."""
    alice = world.people["owner"]
    turns = Turn.objects.filter(conversation__owner=alice)
    hers = {
        "herself": User.objects.filter(pk=alice.pk),
        "groups": alice.groups,
        "addresses": EmailAddress.objects.filter(user=alice),
        "factors": Authenticator.objects.filter(user=alice),
        "sessions": UserSession.objects.filter(user=alice, session_key="of-hers"),
        "conversations": Conversation.objects.filter(owner=alice),
        "turns": turns,
        "deliberations": Deliberation.objects.filter(pk__in=turns.values("deliberation")),
        "links": Share.objects.filter(conversation__owner=alice),
    }

    def known(row: dict) -> dict:
        return {key: value for key, value in row.items() if key not in {"opened", "last_login", "last_seen_at"}}

    return {name: [known(row) for row in rows.order_by("pk").values()] for name, rows in hers.items()}


def outcome(response) -> str:
    match response.status_code:
        case 302 if urlsplit(response["location"]).path.endswith("/login/"):
            return LOGIN
        case 403:
            return REFUSED
        case 404:
            return MISSING
        case 405 | 500:
            return str(response.status_code)
        case _:
            return IN


@pytest.mark.parametrize("who", Rule._fields)
async def test_each_socket_lets_in_whom_it_should(world, who):
    def arrive() -> str:
        client = Client()
        if world.people[who]:
            client.force_login(world.people[who])
        return "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())

    headers = [(b"origin", b"http://localhost"), (b"host", b"localhost")]
    headers.append((b"cookie", (await sync_to_async(arrive)()).encode()))
    for place, rule in SOCKETS.items():
        address = f"{await sync_to_async(filled)(place, world)}?after=0&revision=0"
        socket = WebsocketCommunicator(asgi.application, address, headers=headers)
        assert (await socket.connect(PATIENCE))[0]
        told = await socket.receive_output(PATIENCE)
        assert (IN if QUESTION in told.get("text", "") else SHOWN_OUT) == getattr(rule, who)
        assert (told["type"] == "websocket.close") == (getattr(rule, who) == SHOWN_OUT)
        await socket.disconnect()
