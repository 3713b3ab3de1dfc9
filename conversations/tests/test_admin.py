"""What an administrator's change of a person means for their conversations."""

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests import cast as people
from conversations import asking
from conversations.tests import cast
from council.models import Deliberation

pytestmark = pytest.mark.django_db
PEOPLE = "/admin/accounts/user/"


@pytest.fixture
def admin(client):
    client.force_login(people.alice())
    return client


def deactivate(admin, person, how):
    if how == "the form":
        form = {"email": person.email, "name": person.name}
        return admin.post(f"{PEOPLE}{person.pk}/change/", form)
    return admin.post(PEOPLE, {"action": "deactivate", "_selected_action": [person.pk]})


@pytest.mark.parametrize("how", ["the form", "the action"])
def test_deactivating_stops_all_that_runs_or_waits_and_nothing_else(admin, how):
    bob, carol = people.bob(), User.objects.create_user("carol@example.com", None)
    council = cast.council()
    asked = {}
    for person, status in ((bob, "queued"), (bob, "running"), (bob, "complete"), (carol, "running")):
        deliberation = asking.ask(person, "What now?", council).deliberation
        Deliberation.objects.filter(pk=deliberation.pk).update(status=status)
        asked[deliberation.pk] = (person, status)
    deactivate(admin, bob, how)
    stopped = Deliberation.objects.filter(cancel_requested=True).values_list("pk", flat=True)
    assert {asked[key] for key in stopped} == {(bob, "queued"), (bob, "running")}


def test_whoever_comes_back_finds_everything(admin):
    bob, browser = people.bob(), Client()
    turn = asking.ask(bob, "What was it?", cast.council())
    deactivate(admin, bob, "the action")
    form = {"email": bob.email, "name": bob.name, "is_active": "on"}
    admin.post(f"{PEOPLE}{bob.pk}/change/", form)
    browser.post("/accounts/login/", {"login": bob.email, "password": people.PASSWORD})
    assert "What was it?" in browser.get(turn.conversation.get_absolute_url()).text
    assert "What was it?" in browser.get("/").text
