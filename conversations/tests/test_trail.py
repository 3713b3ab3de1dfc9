"""What people do with conversations is in the audit trail: who, what, by whom it was seen, and never what it says."""

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from conversations import asking, deleting, titles
from conversations.models import Conversation
from conversations.tests import links
from conversations.tests.worker import carry_out
from council import call_rows, plans
from council import trail as council_trail
from council.call_rows import NewCall
from council.core.values import Mode
from council.models import Call, Council, Deliberation, LanguageModel, Provider, Seat
from council.threads import in_thread
from governance import audit, chain, rows
from governance.models import Event, Tally
from governance.tests.trail import events, last, whole_trail

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = "Where does the grey heron sleep in winter?"


@pytest.fixture(autouse=True)
def signed_in(client, alice):
    client.force_login(alice)


def test_a_question_is_told_by_its_digest_and_by_who_may_see_it(alice, provider):
    turn = asking.ask(alice, QUESTION, Council.objects.get())
    told = last("asked")
    assert (told.actor, told.object_type) == (alice.actor, "deliberation")
    assert told.object_id == str(turn.deliberation_id)
    assert told.details["question"] == audit.digest(QUESTION)
    assert told.details["council"] == Council.objects.get().slug
    assert {each["model"] for each in told.details["models"]} == set(
        LanguageModel.objects.values_list("model_id", flat=True)
    )
    assert "heron" not in whole_trail()


def test_its_end_is_told_with_who_has_seen_it(alice, provider):
    Seat.objects.filter(position=2).delete()  # a model that is not asked
    turn = asking.ask(alice, QUESTION, Council.objects.get())
    found = carry_out(turn)
    (told,) = events("ended")
    assert (told.actor, told.object_id) == (None, str(turn.deliberation_id))
    assert told.details["status"] == found.status == "complete"
    assert told.details["calls"] - found.calls.exclude(purpose="title").count() in {0, 1}  # with the title's
    assert {each["model"] for each in told.details["seen by"]} == {"test-0", "test-1", "test-3"}
    assert {each["provider"] for each in told.details["seen by"]} == {Provider.objects.get().name}
    assert "heron" not in whole_trail()


def test_models_are_told_by_the_ids_they_were_asked_by_and_calls_of_old_by_names(alice, provider):
    LanguageModel.objects.update(name="The model")
    turn = asking.ask(alice, QUESTION, Council.objects.get())
    found = carry_out(turn)
    found.calls.filter(model_id="test-2").update(model_id="", language_model=None)
    LanguageModel.objects.filter(model_id="test-1").update(model_id="another")
    rows.execute([council_trail.ended(found.pk, found.status, 1.0)])
    before, now = ({each["model"] for each in told.details["seen by"]} for told in events("ended"))
    assert before == {"test-0", "test-1", "test-2", "test-3"}
    assert now == {"test-0", "test-1", "The model", "test-3"}


def test_a_model_that_is_asked_for_a_title_after_the_end_is_told(alice, provider, monkeypatch):
    """Of a council that is done before it is time for a title; the cheapest of it, which nobody asked before."""
    LanguageModel.objects.filter(model_id="test-3").update(output_price=0)
    suggest = titles.suggest

    async def later(claim, heard):
        while not await in_thread(Deliberation.objects.filter(finished__isnull=False).exists):
            await asyncio.sleep(0.01)
        return await suggest(claim, heard)

    monkeypatch.setattr(titles, "suggest", later)
    turn = asking.ask(alice, QUESTION, Council.objects.get(), Mode.ANSWERS)
    found = carry_out(turn)
    assert Conversation.objects.get().titled
    assert "test-3" not in {each["model"] for each in last("ended").details["seen by"]}
    (told,) = events("titled")
    assert (told.actor, told.object_id) == (None, str(found.pk))
    assert told.details == {"seen by": [{"provider": "Test", "model": "test-3"}]}


@pytest.fixture
def over(conversation):
    """A deliberation that has ended, and a call for its title."""
    found = Deliberation.objects.get()
    return found, NewCall(Call.Purpose.TITLE, plans.snapshot(LanguageModel.objects.get(model_id="test-0")))


def test_a_titles_call_that_waits_for_its_turn_is_told_when_it_goes_out(over):
    found, title = over
    Provider.objects.update(concurrency=1)
    waits = call_rows.send(title, found.pk, 1)
    assert waits.sent is None
    assert not events("titled")
    call_rows.go(waits.id, waits.title_of)
    assert [each.object_id for each in events("titled")] == [str(found.pk)]


def test_one_whose_going_out_is_written_twice_is_told_once(over):
    """The connection broke before anybody heard that it was written."""
    found, title = over
    Provider.objects.update(concurrency=1)
    waits = call_rows.send(title, found.pk, 1)
    went = [call_rows.go(waits.id, waits.title_of) for _ in range(2)]
    assert went == [Call.objects.get(pk=waits.id).sent] * 2
    assert len(events("titled")) == 1


def test_one_that_goes_out_before_the_end_is_told_with_the_end(over):
    found, title = over
    Deliberation.objects.update(finished=None)
    call_rows.send(title, found.pk, 1)
    assert not events("titled")
    rows.execute([council_trail.ended(found.pk, "complete", 1.0)])
    assert {"provider": "Test", "model": "test-0"} in last("ended").details["seen by"]


def test_one_that_goes_out_at_the_very_end_is_told(over):
    """Neither sees what the other has not committed yet: it waits for the end, or the end for it."""
    found, title = over
    Deliberation.objects.update(finished=None)

    def send():
        call_rows.send(title, found.pk, 1)
        connection.close()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            Deliberation.objects.update(finished=timezone.now())
            rows.execute([council_trail.ended(found.pk, "complete", 1.0)])
            sent = other.submit(send)
            wait([sent], timeout=1)
        sent.result()
    assert {"provider": "Test", "model": "test-0"} in last("titled").details["seen by"]


def test_one_that_failed_and_one_that_was_stopped_are_told_too(alice, provider):
    provider.script({"kind": "answer"}, fault="refuse_auth")
    carry_out(asking.ask(alice, QUESTION, Council.objects.get()))
    assert last("ended").details["status"] == "failed"
    turn = asking.ask(alice, QUESTION, Council.objects.get())
    deleting.cancel(turn.conversation, alice.actor)
    assert (last("stopped").actor, last("stopped").object_id) == (alice.actor, str(turn.deliberation_id))
    carry_out(turn)
    assert last("ended").details["status"] == "cancelled"


def test_what_the_rules_refuse_is_told(client, council):
    council.groups.add(Group.objects.create(name="Others"))
    client.post("/", {"question": QUESTION, "council": council.slug})
    assert last("refused").details == {"rule": "no such council for this person", "act": "ask"}
    assert not events("asked")


def test_a_link_is_told_from_its_making_to_its_end(client, alice, bob, conversation):
    links.post(client, conversation, audience="team")
    made = last("shared")
    assert (made.actor, made.object_id, made.details["new"]) == (alice.actor, str(conversation.pk), True)
    share = conversation.shares.get()
    assert share.token not in whole_trail()
    links.browser(bob).get(links.place(share.token))
    assert (last("link opened").actor, last("link opened").details) == (bob.actor, {"link": share.pk})
    links.browser(bob).post(reverse("copy", args=[share.token]))
    assert last("copied").actor == bob.actor
    links.post(client, conversation, audience="team", expiry="7")
    assert last("shared").details["new"] is False
    links.post(client, conversation, action="revoke")
    assert (last("unshared").actor, last("unshared").details) == (alice.actor, {"link": share.pk})


def test_who_opens_a_link_without_signing_in_is_counted(client, alice, conversation):
    links.allow_public_links()
    token = links.make(conversation, "anyone")
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):  # the same within an hour is one
        links.browser().get(links.place(token), REMOTE_ADDR=address)
    assert not events("link opened")
    assert sum(each.count for each in Tally.objects.filter(kind="link opened")) == 2


@pytest.mark.parametrize("form", ["md", "json"])
def test_an_export_is_told(client, alice, conversation, form):
    client.get(f"{conversation.get_absolute_url()}export.{form}")
    assert (last("exported").actor, last("exported").object_id) == (alice.actor, str(conversation.pk))


def test_so_is_one_from_the_shell(alice, conversation, capsys):
    call_command("export", str(conversation.pk))
    assert last("exported").details["by"] == "shell"


def test_deleting_and_its_undoing(client, alice, conversation):
    client.post(reverse("delete", args=[conversation.pk]))
    client.post(reverse("restore", args=[conversation.pk]))
    assert [last(kind).object_id for kind in ("deleted", "restored")] == [str(conversation.pk)] * 2


def test_what_is_removed_for_good_is_told_of_nobody(client, alice, conversation):
    client.post(reverse("delete", args=[conversation.pk]))
    assert deleting.purge(timezone.now()) == 1
    (told,) = events("purged")
    assert (told.actor, told.object_type, told.object_id) == (None, "conversation", str(conversation.pk))


def test_a_slot_that_is_tried_again(client, alice, conversation):
    Deliberation.objects.get().answers.update(outcome="failed")
    client.post(reverse("retry", args=[conversation.pk]), {"slot": "answering:0"})
    assert last("tried again").details == {"slot": "answering:0"}


def test_the_chain_is_whole_after_all_that(client, alice, conversation):
    links.post(client, conversation, audience="team")
    client.post(reverse("delete", args=[conversation.pk]))
    assert chain.verify().wrong == []
    assert Event.objects.count() > 3
