"""From a question to a turn, or to words that say why not."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob

from conversations import asking, deleting, jobs
from conversations.history import PAGE
from conversations.models import Conversation, Turn
from conversations.tests import cast
from conversations.tests.injections import INJECTIONS
from council import plans
from council.models import Answer, Council, Deliberation, LanguageModel, Provider, Synthesis

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    return cast.alice(), cast.bob()


@pytest.fixture
def client(people):
    client = Client()
    client.force_login(people[0])
    return client


def post(client, question, **more):
    return client.post("/", {"question": question, "council": "test", "mode": "full", **more})


def test_it_stores_turn_plan_and_job_together_and_goes_to_the_conversation(client, council):
    response = post(client, "Why is the sky blue?")
    conversation = Conversation.objects.get()
    assert response.status_code == 302
    assert response["Location"] == conversation.get_absolute_url()
    deliberation = conversation.turns.get().deliberation
    assert deliberation.plan["question"] == "Why is the sky blue?"
    tasks = set(ProcrastinateJob.objects.values_list("task_name", flat=True))
    assert tasks == {"deliberate"}


def test_it_leaves_nothing_behind_when_the_job_cannot_be_stored(people, council, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("no queue")

    monkeypatch.setattr(jobs.app, "configure_task", fail, raising=False)
    with pytest.raises(RuntimeError):
        asking.ask(people[0], "Lost?", council)
    assert not Deliberation.objects.exists()
    assert not Turn.objects.exists()


@pytest.mark.parametrize("question", ["", "   \n", "\x00", "\u202e\u2066"])
def test_it_says_that_an_empty_question_is_empty(client, council, question):
    response = post(client, question)
    assert response.status_code == 422
    assert "Write a question first" in response.content.decode()


def test_it_keeps_a_question_that_is_too_long_and_says_by_how_much(client, council):
    question = "long words " * 18_200
    response = post(client, question)
    assert response.status_code == 422
    page = response.content.decode()
    assert "50,000 fit" in page
    assert question.strip() in page


@pytest.mark.parametrize("question", ["a\x00b", "abc \u202etxt.exe", *INJECTIONS[:5]])
def test_it_takes_odd_characters_and_shows_them_harmless(client, council, question):
    response = client.post("/", {"question": question, "council": "test"}, follow=True)
    page = response.content.decode()
    assert response.status_code == 200
    for bad in ("\x00", "\u202e", "<script>alert", "onerror=alert"):
        assert bad not in page.replace("&lt;script&gt;alert", "")


def test_it_makes_a_double_click_one_turn(client, council):
    request_id = str(uuid4())
    first = post(client, "Once?", request_id=request_id)
    second = post(client, "Once?", request_id=request_id)
    assert first["Location"] == second["Location"]
    assert Turn.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_it_makes_clicks_at_the_same_moment_one_turn():
    alice, council, request_id = cast.alice(), cast.council(), uuid4()
    together = threading.Barrier(4)

    def click(_):
        together.wait()
        try:
            return asking.ask(alice, "Once?", council, request_id=request_id).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as clicks:
        assert len(set(clicks.map(click, range(4)))) == 1
    assert (Conversation.objects.count(), Turn.objects.count(), Deliberation.objects.count()) == (1, 1, 1)


def test_it_refuses_a_form_whose_conversation_was_deleted(client, council):
    request_id = str(uuid4())
    post(client, "Once?", request_id=request_id)
    deleting.delete(Conversation.objects.get())
    response = post(client, "Once?", request_id=request_id)
    assert response.status_code == 409
    assert "Once?" in response.content.decode()
    assert "sent before" in response.content.decode()


def test_a_follow_up_never_leaves_out_an_answer_that_is_just_coming(client, council, monkeypatch):
    place = post(client, "First?")["Location"]
    plan = plans.new_deliberation

    def slowly(*given):
        Deliberation.objects.update(status="complete")
        return plan(*given)

    monkeypatch.setattr(plans, "new_deliberation", slowly)
    assert client.post(place, {"question": "Second?", "council": "test"}).status_code == 409


def test_it_refuses_the_same_form_with_another_question(client, council):
    request_id = str(uuid4())
    post(client, "Once?", request_id=request_id)
    response = post(client, "Twice?", request_id=request_id)
    assert response.status_code == 409
    assert "Twice?" in response.content.decode()


def test_it_keeps_a_second_question_while_the_first_is_under_way(client, council):
    place = post(client, "First?")["Location"]
    response = client.post(place, {"question": "Second?", "council": "test"})
    assert response.status_code == 409
    page = response.content.decode()
    assert "Second?" in page
    assert "still at work" in page
    assert 'http-equiv="refresh"' not in page  # where no script runs, it would take the second away
    assert 'http-equiv="refresh"' in client.get(place).text
    assert Turn.objects.count() == 1


def test_it_carries_earlier_questions_and_council_answers_into_a_follow_up(people, council):
    first = asking.ask(people[0], "First?", council)
    Deliberation.objects.update(status="complete")
    label = first.deliberation.plan["common"][1]
    first.deliberation.refresh_from_db()
    Synthesis.objects.create(
        deliberation=first.deliberation, text=f"As [{label}] says.", state="ended", outcome="complete"
    )
    second = asking.ask(people[0], "And then?", council, conversation=first.conversation)
    second.deliberation.refresh_from_db()
    assert second.deliberation.plan["history"] == [{"question": "First?", "answer": "As [B] says."}]
    assert second.parent == first


STANDINGS = [{"seat": 2, "place": 1, "mean": 1.0, "ballots": 3}, {"seat": 1, "place": 2, "mean": 2.0, "ballots": 3}]


@pytest.mark.parametrize(
    ("outcome", "standings", "carried"),
    [
        pytest.param("truncated", STANDINGS, "Half a", id="a chairman that was cut off"),
        pytest.param("cancelled", STANDINGS, "Half a", id="a chairman that a person stopped"),
        pytest.param("filtered", STANDINGS, "C's", id="the top-ranked for a chairman whose text does not count"),
        pytest.param("failed", [], "B's", id="the first that can be used where nobody voted"),
        pytest.param("", STANDINGS, "C's", id="the top-ranked where the chairman was not asked"),
    ],
)
def test_a_follow_up_carries_what_stands_for_the_council_s_answer(people, council, outcome, standings, carried):
    first = asking.ask(people[0], "First?", council)
    Deliberation.objects.update(status="partial", standings=standings)
    for seat, ended in enumerate(("failed", "complete", "complete")):
        text = f"{'ABC'[seat]}'s"
        Answer.objects.create(deliberation_id=first.deliberation_id, seat=seat, text=text, state="ended", outcome=ended)
    if outcome:
        Synthesis.objects.create(deliberation_id=first.deliberation_id, text="Half a", state="ended", outcome=outcome)
    second = asking.ask(people[0], "And then?", council, conversation=first.conversation)
    assert second.deliberation.plan["history"] == [{"question": "First?", "answer": carried}]


def test_a_follow_up_says_that_nobody_answered(people, council):
    first = asking.ask(people[0], "First?", council)
    Deliberation.objects.update(status="failed")
    second = asking.ask(people[0], "And then?", council, conversation=first.conversation)
    assert second.deliberation.plan["history"][0]["answer"] == "(The council gave no answer.)"


@pytest.mark.django_db(transaction=True)
def test_it_says_that_a_council_has_just_been_removed(people, council):
    chosen = plans.usable(people[0].pk, council.slug)
    council.delete()
    with pytest.raises(asking.Refused, match="removed"):
        asking.ask(people[0], "Anyone?", chosen)


def test_it_says_what_a_council_lacks(client, council):
    LanguageModel.objects.filter(slug__in=["test-0", "test-1"]).update(enabled=False)
    response = post(client, "Anyone?")
    assert response.status_code == 422
    page = response.content.decode()
    assert "at least two members" in page
    assert "Anyone?" in page


def test_it_offers_only_councils_of_ones_groups(client, people, council):
    council.groups.add(Group.objects.create(name="Directors"))
    assert not Council.objects.usable_by(people[0]).exists()
    response = post(client, "May I?")
    assert response.status_code == 422
    assert not Turn.objects.exists()


def offered(response):
    """The councils that the composer offers."""
    (choice,) = re.findall(r'<select name="council".*?</select>', response.content.decode())
    return set(re.findall(r'value="(.*?)"', choice))


def test_the_composer_follows_ones_groups_while_the_page_is_open(client, people, council):
    directors = Group.objects.create(name="Directors")
    other = cast.council(slug="open")
    council.groups.add(directors)
    people[0].groups.add(directors)
    assert offered(client.get("/")) == {"test", "open"}
    place = post(client, "First?")["Location"]
    Deliberation.objects.update(status="complete")

    people[0].groups.remove(directors)
    for address in ("/", place):
        response = client.post(address, {"question": "Second?", "council": "test", "mode": "full"})
        assert response.status_code == 422
        assert "Choose a council" in response.content.decode()
        assert "Second?" in response.content.decode()
        assert offered(response) == {"open"}
    assert Turn.objects.count() == 1
    # What was asked while one belonged to them stays one's own.
    assert "First?" in client.get(place).content.decode()
    assert client.post(place, {"question": "Second?", "council": other.slug}).status_code == 302


def test_nobody_else_sees_or_touches_a_conversation_staff_included(client, people, council):
    place = post(client, "Mine?")["Location"]
    conversation = Conversation.objects.get()
    other = Client()
    bob = people[1]
    bob.is_staff = bob.is_superuser = True
    bob.save()
    other.force_login(bob)
    assert other.get(place).status_code == 404
    assert other.post(place, {"question": "x"}).status_code == 404
    for name in ("stop", "rename", "delete", "restore"):
        assert other.post(reverse(name, args=[conversation.pk])).status_code == 404
    assert other.get(reverse("changes", args=[conversation.pk])).status_code == 404
    assert "Mine?" not in other.get("/").content.decode()
    assert "Mine?" not in other.get("/history/?q=Mine").content.decode()


def test_everything_asks_for_sign_in_first(council):
    for address in ("/", "/history/", f"/c/{uuid4()}/", f"/c/{uuid4()}/changes/"):
        response = Client().get(address)
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")
    for name in ("stop", "rename", "delete", "restore"):
        response = Client().post(reverse(name, args=[uuid4()]))
        assert response["Location"].startswith("/accounts/login/")


def test_it_renames_and_keeps_the_old_title_where_the_new_one_is_wrong(client, council):
    post(client, "Name me")
    conversation = Conversation.objects.get()
    address = reverse("rename", args=[conversation.pk])
    client.post(address, {"title": "  A <b>new</b>\u202e name "})
    conversation.refresh_from_db()
    assert conversation.title == "A <b>new</b> name"
    assert "<b>new</b>" not in client.get(conversation.get_absolute_url()).content.decode()
    post(client, "Another")
    for wrong in (" \t ", "x" * 121):
        response = client.post(address, {"title": wrong})
        assert response.status_code == 422
        page = response.content.decode()
        assert "The old one stays" in page
        assert page.count(f'<input name="title" value="{wrong}"') == 1, "what was typed is kept"
        assert page.count('aria-invalid="true"') == 1
        assert page.count('aria-current="page"') == 1
        assert 'http-equiv="refresh"' not in page, "a refresh would lose it"
        conversation.refresh_from_db()
        assert conversation.title == "A <b>new</b> name"
    assert 'http-equiv="refresh"' in client.get(conversation.get_absolute_url()).content.decode()


def test_a_wrong_title_of_a_line_that_is_not_on_the_page_is_kept_where_it_is_said(client, people, council):
    old = Conversation.objects.create(owner=people[0], title="Old", titled=True)
    Conversation.objects.bulk_create(Conversation(owner=people[0], title="New", titled=True) for _ in range(PAGE))
    page = client.post(reverse("rename", args=[old.pk]), {"title": "Mine " * 30}).content.decode()
    assert "Mine Mine" not in re.search(r'id="history".*?</nav>', page, re.DOTALL)[0]
    assert f"You typed: “{' '.join(['Mine'] * 30)}”" in page


def test_what_is_offered_on_a_page_of_a_wrong_title_leads_to_the_conversation(client, council):
    post(client, "Name me")
    conversation = Conversation.objects.get()
    Deliberation.objects.update(status="failed", reason="No member answered.")
    page = client.post(reverse("rename", args=[conversation.pk]), {"title": " "}).content.decode()
    assert f'<form id="again" action="{conversation.get_absolute_url()}#composer"' in page
    assert '<button class="btn" form="again" name="again" value="1"' in page


def test_it_deletes_stops_and_restores(client, council):
    place = post(client, "Delete me")["Location"]
    conversation = Conversation.objects.get()
    page = client.post(reverse("delete", args=[conversation.pk]), follow=True).content.decode()
    assert reverse("restore", args=[conversation.pk]) in page
    assert client.get(place).status_code == 404
    assert Deliberation.objects.get().cancel_requested
    page = client.post(reverse("restore", args=[conversation.pk]), follow=True).content.decode()
    assert "is back" in page
    assert client.get(place).status_code == 200


def test_what_was_deleted_long_ago_goes_for_good(client, council):
    from django.utils import timezone

    post(client, "Old")
    deleting.delete(Conversation.objects.get())
    assert deleting.purge(timezone.now() - deleting.UNDO) == 0
    assert deleting.purge(timezone.now()) == 1
    assert not Conversation.objects.exists()
    assert not Turn.objects.exists()
    assert not Deliberation.objects.exists()


def test_it_searches_titles(client, council):
    post(client, "Apples or pears?")
    Deliberation.objects.update(status="complete")
    post(client, "Trains or planes?")
    page = client.get("/history/?q=appLE").content.decode()
    assert "Apples" in page
    assert "Trains" not in page


def test_without_a_council_there_is_no_composer_but_what_to_do(client, people, council):
    place = post(client, "First?")["Location"]
    Deliberation.objects.update(status="complete")
    council.groups.add(Group.objects.create(name="Directors"))
    for address in ("/", place):
        page = client.get(address).text
        assert "Ask an administrator for one." in page
        assert 'name="question"' not in page
        assert "Second?" in client.post(address, {"question": "Second?"}).text
    people[0].is_staff = people[0].is_superuser = True
    people[0].save()
    for address in ("/", place):
        page = client.get(address).text
        assert "for groups that you are not in" in page
        assert reverse("admin:council_council_changelist") in page
        assert "Finish setup" not in page
    Council.objects.update(enabled=False)
    assert "Finish setup" in client.get("/").text


def test_a_practice_model_is_named_wherever_it_is_shown(client, council):
    for practice in (False, True):
        Provider.objects.update(kind="practice" if practice else "compatible")
        place = post(client, "Should we?")["Location"]
        for address in ("/", place, f"{place}export.md"):
            assert ("practice model" in client.get(address).text) is practice, address
