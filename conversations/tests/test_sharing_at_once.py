"""A link that is changed, opened, revoked or deleted from several windows at the same moment."""

import threading
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import SiteSettings
from conversations import asking, deleting, sharing
from conversations.forms import ShareForm
from conversations.models import Conversation, Share
from conversations.tests import cast
from council.models import Deliberation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def conversation():
    SiteSettings.objects.create(pk=1, public_links=True)
    made = asking.ask(cast.alice(), "First question?", cast.council()).conversation
    Deliberation.objects.update(status="complete", revision=3)
    return made


@pytest.fixture
def share(conversation):
    return sharing.save(conversation, "anyone", None, live=False)


@pytest.fixture
def meanwhile(monkeypatch):
    """In another window something is done, just when this one is about to write the link's row."""

    @contextmanager
    def done_meanwhile(done):
        save = Share.save

        def window():
            done()
            connection.close()

        other = threading.Thread(target=window)

        def slow(self, *args, **kwargs):
            if threading.current_thread() is not other:
                other.start()
                other.join(1)  # where the two must not mix it waits, and comes next
            save(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Share, "save", slow)
            yield
        other.join()

    return done_meanwhile


def opens(share):
    return Share.objects.open_to(AnonymousUser(), share.token).exists()


def browser(conversation):
    client = Client()
    client.force_login(conversation.owner)
    return client


def post(conversation, **given):
    return browser(conversation).post(reverse("share", args=[conversation.pk]), given)


def test_a_link_that_is_revoked_while_it_is_changed_stays_revoked(conversation, share, meanwhile):
    with meanwhile(lambda: sharing.revoke(Share.objects.filter(pk=share.pk))):
        assert post(conversation, audience="anyone", expiry="7").status_code == 302
    assert not opens(share)


def test_a_link_that_is_revoked_while_it_is_updated_stays_revoked(conversation, share, meanwhile):
    with meanwhile(lambda: sharing.revoke(Share.objects.filter(pk=share.pk))):
        post(conversation, action="update")
    assert not opens(share)


def test_an_opening_while_it_is_changed_is_counted(conversation, share, meanwhile):
    with meanwhile(lambda: sharing.count_opening(share)):
        post(conversation, audience="team", expiry="7")
    share.refresh_from_db()
    assert (share.opened, share.audience) == (1, "team")


def test_an_update_while_it_is_made_live_is_none_and_the_link_is_live(conversation, share, meanwhile):
    with meanwhile(lambda: sharing.save(conversation, "team", None, live=True)):
        post(conversation, action="update")
    share.refresh_from_db()
    assert share.live


def test_what_was_made_live_meanwhile_is_not_updated(conversation, share):
    before = Share.objects.get()
    sharing.save(conversation, "team", None, live=True)
    assert not sharing.update(before)
    share.refresh_from_db()
    assert share.live


def test_two_windows_make_one_link(conversation, meanwhile):
    with meanwhile(lambda: sharing.save(conversation, "team", None, live=False)):
        sharing.save(conversation, "anyone", None, live=False)
    assert Share.objects.get().audience == "team"


def test_a_conversation_that_is_deleted_while_its_link_is_made_has_none(conversation, meanwhile):
    with meanwhile(lambda: deleting.delete(conversation)):
        post(conversation, audience="team")
    Conversation.objects.update(deleted=None)
    assert not Share.objects.filter(revoked=None).exists()


def test_a_conversation_that_was_deleted_meanwhile_gets_no_link(conversation, monkeypatch):
    is_valid = ShareForm.is_valid
    monkeypatch.setattr(ShareForm, "is_valid", lambda form: deleting.delete(conversation) == 0 and is_valid(form))
    assert post(conversation, audience="team").status_code == 404
    assert not Share.objects.exists()


@pytest.mark.parametrize("how", ["revoked", "live", "never there"])
def test_update_says_so_where_there_is_no_snapshot(conversation, how):
    if how != "never there":
        made = sharing.save(conversation, "team", None, live=how == "live")
    if how == "revoked":
        sharing.revoke(Share.objects.filter(pk=made.pk))
    page = browser(conversation).post(reverse("share", args=[conversation.pk]), {"action": "update"}, follow=True)
    assert "Nothing was updated" in page.text
    assert "The link now shows" not in page.text


def test_whoever_saves_what_was_revoked_meanwhile_is_told_that_the_link_is_another(conversation, share, monkeypatch):
    is_valid = ShareForm.is_valid
    monkeypatch.setattr(
        ShareForm, "is_valid", lambda form: sharing.revoke(Share.objects.filter(revoked=None)) == 1 and is_valid(form)
    )
    page = browser(conversation).post(
        reverse("share", args=[conversation.pk]), {"audience": "anyone", "expiry": "never"}, follow=True
    )
    assert "The link is ready." in page.text
    assert not opens(share)
    assert opens(Share.objects.get(revoked=None))
