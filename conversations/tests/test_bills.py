"""What was billed for calls of which nobody knows what came, where the provider can tell."""

import asyncio
import re
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection
from django.db.models import F
from django.utils.html import strip_tags

from conversations import asking, changes, results, tasks
from conversations.changes import Known
from conversations.tests.worker import carry_out, work
from council import bills, call_rows, calls
from council.call_rows import TOLD
from council.models import Call, Deliberation, LanguageModel
from council.models import Provider as ProviderRow
from council.providers import telling
from council.tests import rosters

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30
SECOND = "gen-second"
BILL = {"id": "gen-first", "total_cost": 0.0123, "native_tokens_prompt": 90, "native_tokens_completion": 40}


@pytest.fixture
def openrouter(council):
    ProviderRow.objects.update(kind=ProviderRow.Kind.OPENROUTER, api_key=rosters.KEY)


@pytest.fixture
def turn(alice, council, provider, openrouter):
    """What came of two of its calls is not known."""
    turn = asking.ask(alice, "What now?", council)
    assert carry_out(turn).status == "complete"
    for call, generation in zip(Call.objects.filter(purpose="answer"), ("gen-first", SECOND), strict=False):
        Call.objects.filter(pk=call.pk).update(
            generation=generation, unknown=True, outcome="unknown", input_tokens=None, output_tokens=None, cost=None
        )
    return turn


def lost():
    return Call.objects.filter(unknown=True)


def look() -> list:
    """Returns what is shown."""
    shown = []

    async def show(deliberation):
        shown.append(deliberation)

    async def one():
        async with calls.connections():
            async with asyncio.timeout(PATIENCE):
                await bills.look(calls.transport(), show)

    async_to_sync(one)()
    return shown


def tell(provider, bill=BILL, **respond) -> None:
    respond = respond or {"body": {"data": bill}}
    provider.script({"path": f"/generation?id={bill['id']}"}, **respond)


def asked(provider) -> list[str]:
    return [each["path"].partition("=")[2] for each in provider.requests() if each["kind"] == "generation"]


def page_of(client, turn) -> str:
    client.force_login(turn.conversation.owner)
    page = client.get(f"/c/{turn.conversation_id}/").content.decode()
    return " ".join(strip_tags(page).split())


def test_a_silent_call_is_asked_about_by_the_id_that_came_with_its_head(alice, council, provider, openrouter):
    LanguageModel.objects.update(first_token_seconds=1)
    silence = {"headers": {"x-generation-id": "gen-first"}, "events": [[99, "[DONE]"]]}
    provider.script({"model": "test-1", "kind": "answer"}, times=1, **silence)
    turn = asking.ask(alice, "What now?", council)
    assert carry_out(turn).status == "complete"
    tell(provider)
    assert look() == [turn.deliberation_id]
    found = lost().get()
    assert (found.outcome, found.cost) == ("timed_out", 12_300)
    assert found.error.endswith(TOLD)


def test_it_is_asked_for_and_counted(turn, provider, client):
    before = results.as_json(turn.deliberation)
    assert "Calls with an unknown result2 may be billed all the same" in page_of(client, turn)
    tell(provider)
    assert look() == [turn.deliberation_id]
    assert sorted(asked(provider)) == ["gen-first", SECOND]
    assert all(each["authorized"] for each in provider.requests() if each["kind"] == "generation")
    first, second = lost().order_by("pk")
    assert (first.input_tokens, first.output_tokens, first.cost, first.estimated) == (90, 40, 12_300, False)
    assert (first.outcome, first.unknown) == ("unknown", True)  # what it wrote nobody will see
    assert first.error.endswith(TOLD)
    assert (second.cost, TOLD in second.error) == (None, False)
    after = results.as_json(Deliberation.objects.get())
    assert after["cost"] == before["cost"] + 12_300
    assert after["unknown_calls"] == 2
    words = "1 counted in the cost; the rest may be billed all the same"
    assert f"Calls with an unknown result2 {words}" in page_of(client, turn)
    tell(provider, {**BILL, "id": SECOND})
    look()
    assert "Calls with an unknown result2 counted in the cost" in page_of(client, turn)
    look()
    assert sorted(asked(provider)) == ["gen-first", SECOND, SECOND]  # what is known is not asked for again


def test_a_deliberation_that_failed_says_so_too(turn, provider, client):
    Deliberation.objects.update(status="failed")
    known = "What came of 2 calls is not known"
    assert f"{known}; they may be billed." in page_of(client, turn)
    tell(provider)
    look()
    assert re.search(rf"{known}\. 1 counted in the cost, \$[0-9.]+; the rest may be billed\.", page_of(client, turn))
    tell(provider, {**BILL, "id": SECOND})
    look()
    assert re.search(rf"{known}\. Counted in the cost: \$[0-9.]+\.", page_of(client, turn))


def test_pages_that_are_open_show_it(turn, provider, monkeypatch):
    told = []

    async def tell_viewers(conversation_id, message):
        told.append((conversation_id, message["type"]))

    monkeypatch.setattr(tasks, "tell", tell_viewers)
    known = Known(turn.pk, Deliberation.objects.get().revision, turn.conversation.title, "synthesising")
    work(lambda: tasks.bills_job.func(timestamp=0))
    assert not told
    tell(provider)
    work(lambda: tasks.bills_job.func(timestamp=0))
    assert told == [(turn.conversation_id, "renewed")]
    assert "1 counted in the cost" in changes.since(turn.conversation, known).html


def test_what_was_estimated_gives_way_to_what_was_billed(turn, provider):
    """So it is with a call that was handed over while it wrote."""
    lost().update(cost=1, input_tokens=1, output_tokens=1, estimated=True)
    tell(provider)
    look()
    found = lost().get(generation="gen-first")
    assert (found.input_tokens, found.output_tokens, found.cost, found.estimated) == (90, 40, 12_300, False)


def test_a_test_call_is_asked_about_as_well(turn, provider):
    lost().filter(generation="gen-first").update(deliberation=None, purpose="test")
    tell(provider)
    assert look() == []
    assert Call.objects.get(generation="gen-first").cost == 12_300


def test_tokens_are_the_model_s_own_else_openrouter_s_else_unknown(turn, provider):
    tell(provider, {"id": "gen-first", "total_cost": 0, "tokens_prompt": 7, "native_tokens_prompt": None})
    look()
    found = lost().get(generation="gen-first")
    assert (found.input_tokens, found.output_tokens, found.cost) == (7, None, 0)


NOTHING = {
    "not yet": {"status": 404, "body": {"data": BILL}},
    "an error": {"status": 500, "body": {"data": BILL}},
    "another way": {"status": 302, "body": "", "headers": {"Location": "/v1/elsewhere"}},
    "a head that is no text": {"bare": True, "raw": [[0, b"HTTP/1.1 200 O\xff\r\nContent-Length: 0\r\n\r\n"]]},
    "no JSON": {"body": "<html>"},
    "a list": {"body": [BILL]},
    "no data": {"body": {"data": None}},
    "another call": {"body": {"data": {**BILL, "id": "gen-other"}}},
    **{
        f"a cost of {cost!r}": {"body": {"data": {**BILL, "total_cost": cost}}}
        for cost in (None, -1, "0.1", 10**9, float("inf"))
    },
}


@pytest.mark.parametrize("respond", NOTHING.values(), ids=NOTHING)
def test_what_tells_nothing_changes_nothing_and_the_other_is_told(turn, provider, respond):
    tell(provider, **respond)
    provider.script({"path": "/elsewhere"}, body={"data": BILL})
    tell(provider, {**BILL, "id": SECOND})
    before = lost().values().get(generation="gen-first")
    assert look() == [turn.deliberation_id]
    assert lost().values().get(generation="gen-first") == before
    assert lost().get(generation=SECOND).cost == 12_300


def spoil_keys() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE council_provider SET api_key = 'not what it was'")


def test_what_cannot_be_written_is_asked_for_again_and_the_other_is_told(turn, provider, monkeypatch):
    tell(provider)
    tell(provider, {**BILL, "id": SECOND})
    billed = call_rows.billed

    def fails_for_the_first(call, bill):
        if Call.objects.get(pk=call).generation == "gen-first":
            raise OperationalError
        return billed(call, bill)

    monkeypatch.setattr(call_rows, "billed", fails_for_the_first)
    look()
    assert lost().get(generation=SECOND).cost == 12_300
    monkeypatch.setattr(call_rows, "billed", billed)
    look()
    assert lost().get(generation="gen-first").cost == 12_300


def test_whoever_never_answers_is_not_waited_for(turn, provider, monkeypatch):
    monkeypatch.setattr(bills, "SECONDS", 3)
    monkeypatch.setattr(telling, "SECONDS", 2 * PATIENCE)
    tell(provider, fault="no_headers")
    tell(provider, {**BILL, "id": SECOND})
    assert look() == [turn.deliberation_id]
    assert lost().get(generation=SECOND).cost == 12_300


def test_of_two_looks_that_are_told_the_same_the_later_changes_nothing(turn, provider):
    (call, _endpoint), *_ = bills._wanted()
    assert bills._write(call, bills.Bill(1, 1, 1))
    before = list(Deliberation.objects.values())
    assert not bills._write(call, bills.Bill(2, 2, 2))
    assert list(Deliberation.objects.values()) == before
    assert lost().get(pk=call.pk).cost == 1


def test_the_half_hour_is_that_after_the_end_of_the_deliberation_should_that_be_later(turn, provider):
    before = timedelta(minutes=40)
    lost().update(queued=F("queued") - before, ended=F("ended") - before)
    tell(provider)
    assert look() == [turn.deliberation_id]


def an_hour_ago() -> None:
    hour = timedelta(hours=1)
    lost().update(ended=F("ended") - hour)
    Deliberation.objects.update(finished=F("finished") - hour)


NOT_ASKED = {
    "of another kind of provider": lambda: ProviderRow.objects.update(kind="openai"),
    "of a provider that is switched off": lambda: ProviderRow.objects.update(enabled=False),
    "whose key cannot be read": spoil_keys,
    "whose model is gone": lambda: lost().update(language_model=None),
    "of long ago": an_hour_ago,
    "without an id": lambda: lost().update(generation=""),
    "of a deliberation that goes on": lambda: Deliberation.objects.update(status="running", finished=None),
    "that the provider has told": lambda: lost().update(cost=1),
}


@pytest.mark.parametrize("made", NOT_ASKED.values(), ids=NOT_ASKED)
def test_nobody_is_asked_about_a_call(turn, provider, made):
    made()
    tell(provider)
    assert look() == []
    assert not asked(provider)


def test_nothing_is_written_where_the_deliberation_goes_on_again_meanwhile(turn, provider):
    """Whoever carries it out adds up the cost from what it has read."""
    wanted = bills._wanted()
    assert len(wanted) == 2
    Deliberation.objects.update(status="running", finished=None)
    before = list(Deliberation.objects.values())
    assert not bills._write(wanted[0][0], bills.Bill(1, 1, 1))
    assert list(Deliberation.objects.values()) == before
    assert not lost().filter(cost=1).exists()
