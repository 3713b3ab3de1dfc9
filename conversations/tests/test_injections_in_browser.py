"""Texts that try to become more, in every field that somebody may fill: nothing runs, and nothing is even tried.

What models write, questions and titles are in `test_every_page_in_browser`.
"""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import quote

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection, models
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from accounts.models import Invitation, Limit, SiteSettings, User
from accounts.signed_in import SessionStore
from accounts.tests.cast import passkey
from conversations import sharing
from conversations.markdown import clean
from conversations.models import Conversation, Share
from conversations.tests.injections import INJECTIONS
from conversations.tests.visitor import Visitor
from council.models import Answer, Breaker, Call, Council, Deliberation, LanguageModel, Review, Seat, Synthesis
from council.models import Provider as ProviderRow
from governance import audit
from governance.audit import Kind, Thing
from governance.models import Verification

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# Each must be text that can stand in a column: one line, no NUL.
TEXTS = [text for each in INJECTIONS if (text := " ".join(clean(each).split()))]


SCRIPTED = '"<svg/onload=alert(1)>"@example.org'
"""An address as the standard of mail allows it."""


def planted() -> list[str]:
    """Fill every column of text, each row with texts of its own; returns what was put there."""
    turn, put = itertools.cycle(TEXTS), []
    fitting = {
        length: itertools.cycle([each for each in TEXTS if len(each) <= length]) for length in (60, 100, 200, 300)
    }

    def fill(rows, *names: str) -> None:
        for row in rows:
            for name in names:
                most = row._meta.get_field(name).max_length
                text = next(fitting[max(each for each in fitting if each <= most)]) if most else next(turn)
                setattr(row, name, text)
                put.append(text)
            type(row).objects.filter(pk=row.pk).update(**{name: getattr(row, name) for name in names})

    fill(Council.objects.all(), "name", "description")
    fill(Seat.objects.all(), "name", "system_prompt")
    fill(LanguageModel.objects.all(), "name", "model_id", "approval_note")
    fill(ProviderRow.objects.all(), "name")
    fill(User.objects.exclude(name=""), "name")
    fill(Deliberation.objects.all(), "council_name", "reason")
    fill(Call.objects.all(), "error", "model_name", "provider_name", "generation")
    fill(Answer.objects.all(), "text", "error")
    fill(Review.objects.all(), "text", "error", "ballot_reason")
    fill(Synthesis.objects.all(), "text", "error")
    fill(UserSession.objects.all(), "user_agent")
    fill(Breaker.objects.all(), "error")
    fill(Share.objects.all(), "title")
    fill(Conversation.objects.all(), "title")
    # Where there is one row, it has all of them.
    SiteSettings.objects.update(domains="\n".join(TEXTS))
    Verification.objects.update(wrong=" ".join(TEXTS))
    for row in Deliberation.objects.all():
        named = [*row.plan["models"], *row.plan["members"], row.plan["chairman"]]
        for each in named:
            each["name"] = next(turn)
        row.plan["question"] = "\n\n".join(TEXTS)
        row.save(update_fields=["plan"])
        put += [each["name"] for each in named]
    for key in Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN):
        key.wrap().name = " ".join(TEXTS)
        key.save()
    for _ in range(10):
        put.append(f"{next(fitting[100])} {len(put)}")
        Group.objects.create(name=put[-1])
    for text in TEXTS:
        audit.record(Kind.CHANGED, None, Thing("council", text[:60]), changes={text: [text, None]})
    return [*put, *TEXTS]


def share(conversation) -> None:
    sharing.save(conversation, Share.Audience.TEAM, None, live=False)
    connection.close()


@pytest.fixture
def root(site, browser, site_council):
    """An administrator with a conversation, a link, a passkey and a row in each list, who may read others'."""
    site.provider.reset()
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=60, ranking="listed")
    visitor = Visitor(site, browser)
    User.objects.filter(pk=visitor.user.pk).update(is_staff=True, is_superuser=True)
    page = visitor.finished(visitor.ask("Should we?"))
    conversation = Conversation.objects.get(pk=page.url.split("/c/")[1][:36])
    with ThreadPoolExecutor(1) as elsewhere:  # Playwright keeps a loop running in this thread
        elsewhere.submit(share, conversation).result()
    Breaker.objects.get_or_create(language_model=LanguageModel.objects.first())
    Limit.objects.get_or_create(what="asks", amount=1000, seconds=60)
    expires = timezone.now() + timedelta(days=1)
    Invitation.objects.create(email=SCRIPTED, expires=expires, created_by=visitor.user)
    User.objects.create_user(SCRIPTED, None, name="Dave")
    Verification.objects.update_or_create(pk=1, defaults={"at": timezone.now(), "count": 1, "wrong": "?"})
    passkey(visitor.user)
    session = SessionStore(visitor.session)  # who has just said again who they are may rename a passkey
    session["account_authentication_methods"] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session["account_authentication_methods_user"] = str(visitor.user.pk)
    session.save()
    visitor.user.user_permissions.add(Permission.objects.get(codename="read_others"))
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert not visitor.problems


def administered() -> list[type[models.Model]]:
    return list(admin.site._registry)


def inert(root, place: str) -> None:
    """The page that is open has nothing that could run, and tried nothing."""
    active = "document.querySelectorAll('[onerror], [onload], [onclick], iframe, object').length"
    assert root.page.evaluate(active) == 0, place
    assert not root.problems, place


def test_nothing_that_somebody_typed_runs_on_any_page(root):
    assert len(set(planted())) >= 40
    conversation = Conversation.objects.get(owner=root.user)
    share = Share.objects.get(conversation=conversation)
    places = [
        "/",
        conversation.get_absolute_url(),
        "/settings/",
        "/settings/links/",
        "/admin/",
        *(reverse(each) for each in ("usersessions_list", "account_email", "mfa_index", "mfa_list_webauthn")),
    ]
    places += [reverse("shared", args=[sharing.token_of(share)]), reverse("share", args=[conversation.pk])]
    for model in administered():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        places.append(reverse(f"{name}_changelist"))
        if row := model._default_manager.order_by("-pk").first():
            try:
                places += [reverse(f"{name}_{each}", args=[row.pk]) for each in ("change", "history")]
            except NoReverseMatch:
                continue
    places += [
        f"{place}?q={quote(text)}" for place in ("/", reverse("admin:auth_group_changelist")) for text in TEXTS[:5]
    ]
    group = Group.objects.order_by("pk").last()
    places.append(reverse("admin:auth_group_delete", args=[group.pk]))
    key = Authenticator.objects.get(user=root.user, type=Authenticator.Type.WEBAUTHN)
    places += [reverse(f"mfa_{each}_webauthn", args=[key.pk]) for each in ("edit", "remove")]
    page = root.page
    for place in places:
        answer = page.goto(place)
        assert answer.status == 200, place
        assert "/reauthenticate" not in page.url, place
        inert(root, place)
    # What staff read, for a reason, and what was typed into a form that is refused.
    place = reverse("admin:conversations_conversation_read", args=[conversation.pk])
    page.goto(place)
    page.get_by_role("textbox", name="Reason").fill(" ".join(TEXTS)[:500])
    page.locator("#content form button, #content form input[type=submit]").first.click()
    page.locator(".turn").first.wait_for()
    inert(root, place)
    domains = reverse("admin:accounts_sitesettings_change", args=[1])
    for text in TEXTS[:5]:
        page.goto(domains)
        page.get_by_role("textbox", name="Domains").fill(text)
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_text("is not a domain").wait_for()
        inert(root, text)
    # As text it is there.
    page.goto(reverse("admin:council_council_changelist"))
    assert Council.objects.order_by("pk").first().name in page.locator("#result_list").inner_text()
