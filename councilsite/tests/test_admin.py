"""The lists of the admin tell what they show, and nothing else: whatever is put into their address."""

import html
import re
from datetime import timedelta
from itertools import chain

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.urls import reverse
from django.utils import timezone

from accounts import sockets
from accounts.models import Invitation, User
from conversations import asking, sharing
from conversations.tests import cast
from council.models import Call, Deliberation, LanguageModel, Provider

pytestmark = pytest.mark.django_db

NAMED = {
    "auth.Group": set(),
    "accounts.User": {"is_active", "is_staff", "is_superuser", "groups"},
    "accounts.Invitation": set(),
    "accounts.Limit": {"what"},
    "accounts.SiteSettings": set(),
    "governance.Event": {"kind", "object_type", "at"},
    "mfa.Authenticator": {"type"},
    "conversations.Conversation": {"created", "updated"},
    "conversations.Share": {"audience", "created"},
    "council.Breaker": {"state", "language_model__provider"},
    "council.CallPolicy": set(),
    "council.Council": {"enabled", "default", "groups"},
    "council.LanguageModel": {"approval", "provider", "enabled"},
    "council.Provider": {"enabled", "kind"},
    "council.Deliberation": {"status", "mode", "practice", "created"},
    "council.Call": {"state", "outcome", "unknown", "purpose", "language_model__provider", "queued"},
    "procrastinate.ProcrastinateJob": {
        "status",
        "queue_name",
        "task_name",
        "lock",
        "queueing_lock",
        "scheduled_at",
        "priority",
    },
}
"""The columns that people may narrow a list by. Whoever adds one asks what can be found out with it."""


@pytest.fixture
def root(client):
    """An administrator, with rows in each list."""
    root = User.objects.create_superuser("root@example.org", "correct horse battery")
    turn = asking.ask(cast.alice(), "Where does the heron sleep?", cast.council())
    Deliberation.objects.update(status="complete")
    sharing.save(turn.conversation, "team", None, live=False)
    root.groups.add(Group.objects.create(name="Editors"))
    Invitation.objects.create(email="eve@example.org", expires=timezone.now() + timedelta(days=1), created_by=root)
    model = {"language_model": LanguageModel.objects.first(), "model_name": "M", "provider_name": "P"}
    Call.objects.create(
        deliberation=turn.deliberation, purpose="answer", outcome="complete", fence=1, sent=timezone.now(), **model
    )
    client.force_login(root)
    return root


def lists():
    return [(model, reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")) for model in REGISTERED]


REGISTERED = list(admin.site._registry)


def columns(model):
    """Every column of a row, of the rows it points at, and of those that point at it."""
    for field in model._meta.get_fields():
        yield field.name
        if field.is_relation and field.related_model:
            yield from (f"{field.name}__{other.name}" for other in field.related_model._meta.get_fields())


def test_no_list_is_narrowed_by_a_column_that_it_does_not_name(root, rf):
    request = rf.get("/")
    request.user = root
    for model in REGISTERED:
        own = admin.site._registry[model]
        known = {
            column
            for column in columns(model)
            for lookup in ("", "__exact", "__startswith", "__regex", "__contains")
            if own.lookup_allowed(column + lookup, "x", request)
        }
        # A row elsewhere is chosen by its number.
        assert {column.removesuffix("__id") for column in known} == NAMED[model._meta.label], model


@pytest.mark.parametrize(
    "asked",
    [
        "accounts/invitation/?token__regex=^a",
        "accounts/invitation/?digest=a",
        "accounts/user/?password__startswith=a",
        "conversations/share/?title__startswith=W",
        "conversations/share/?digest__startswith=0",
        "conversations/share/?conversation__title__contains=heron",
        "council/deliberation/?plan__question__startswith=Where",
        "council/deliberation/?answers__text__contains=x",
        "council/call/?text__icontains=x",
        "council/provider/?api_key__startswith=g",
        "council/languagemodel/?provider__api_key__startswith=g",
        "mfa/authenticator/?data__secret=x",
        "procrastinate/procrastinatejob/?args__icontains=x",
    ],
)
def test_whoever_tries_is_refused(client, root, asked):
    assert client.get(f"/admin/{asked}").status_code == 400


def test_staff_who_invite_cannot_find_out_the_token_of_an_invitation_with_groups(client, root):
    Invitation.objects.get().groups.add(Group.objects.get(name="Editors"))
    stan = User.objects.create_user("stan@example.org", "correct horse battery", is_staff=True)
    stan.user_permissions.set(Permission.objects.filter(codename="add_user"))
    client.force_login(stan)
    assert client.get("/admin/accounts/invitation/").status_code == 200
    assert client.get("/admin/accounts/invitation/?token__regex=^[a-z]").status_code == 400


def test_each_filter_that_a_list_offers_works(client, root):
    offered = 0
    for _, address in lists():
        page = client.get(address, follow=True)
        choices = re.findall(r'<li(?: class="selected")?>\s*<a href="(\?[^"]+)"', page.text)
        for choice in chain(choices, ["?q=a"] if 'name="q"' in page.text else []):
            assert client.get(address + html.unescape(choice)).status_code == 200, address + choice
            offered += 1
    assert offered > 40
    answer = client.get(f"/admin/council/languagemodel/?provider__id__exact={Provider.objects.get().pk}")
    assert answer.context["cl"].result_count == 4


@pytest.mark.parametrize("page", ["password_change", "password_change/done"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_passwords_are_changed_where_sessions_and_open_pages_are_seen_to(client, root, page, method):
    old, new = "correct horse battery", "another staple battery"
    answer = getattr(client, method)(
        f"/admin/{page}/", {"old_password": old, "new_password1": new, "new_password2": new}
    )
    assert (answer.status_code, answer["location"]) in [(302, "/accounts/password/change/"), (302, "/settings/")]
    root.refresh_from_db()
    assert root.check_password(old)


def test_signing_out_of_the_admin_is_signing_out(client, root, monkeypatch):
    shown_out = []
    monkeypatch.setattr(sockets, "show_out", shown_out.append)
    assert client.get("/admin/logout/").status_code == 200
    assert client.post("/admin/logout/").status_code == 302
    assert "_auth_user_id" not in client.session
    assert shown_out == [root.pk]
