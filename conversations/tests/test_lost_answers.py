"""The database did what it was told, and the connection broke before it could say so."""

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from conversations import asking
from conversations.tests import cast
from council import call_rows, claiming, plans, record
from council.call_rows import NewCall
from council.core.errors import Stale
from council.core.events import Ended, StageStarted
from council.core.values import Slot, Stage, Status
from council.models import Call, Deliberation
from governance import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def recorder():
    turn = asking.ask(cast.alice(), "What now?", cast.council())
    claim = claiming.claim(turn.deliberation_id)
    made = record.Recorder(claim)
    made.claim = claim
    return made


@pytest.fixture
def answer_is_lost(monkeypatch):
    execute = rows.execute

    def losing(statements):
        monkeypatch.setattr(rows, "execute", execute)
        execute(statements)
        raise OperationalError("the connection broke")

    monkeypatch.setattr(rows, "execute", losing)


def test_what_is_written_next_has_another_number(recorder, answer_is_lost):
    """A page that has looked in between would else never look again."""
    begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
    with pytest.raises(OperationalError):
        recorder.write(recorder.change([begun]))
    seen = Deliberation.objects.get().revision
    recorder.write(recorder.change([begun, Ended(Status.COMPLETE)]))
    assert Deliberation.objects.get().revision > seen


def test_an_end_that_nobody_was_told_of_is_an_end_and_no_other_workers(recorder, answer_is_lost, monkeypatch):
    told = []
    monkeypatch.setattr(record.measuring, "ended", lambda key, status, *_: told.append((key, status)))
    change = recorder.change([Ended(Status.COMPLETE)])
    with pytest.raises(OperationalError):
        recorder.write(change)
    recorder.write(recorder.change([Ended(Status.COMPLETE)]))
    assert told == [(recorder.id, Status.COMPLETE)]
    assert Deliberation.objects.get().revision == recorder.revision > change.revision


@pytest.mark.parametrize("theirs", [{"attempt": 2}, {"status": "cancelled"}], ids=str)
def test_an_end_that_is_not_its_own_is_another_workers(recorder, theirs):
    recorder.write(recorder.change([Ended(Status.COMPLETE)]))
    Deliberation.objects.update(**theirs)
    with pytest.raises(Stale):
        recorder.write(recorder.change([Ended(Status.COMPLETE)]))


def test_a_call_that_goes_while_calls_are_found_lost_is_lost_or_never_goes(recorder):
    recorder.send([NewCall(Call.Purpose.ANSWER, plans.model_of(recorder.claim.stored, 0), Slot(Stage.ANSWERING, 0))])
    Call.objects.update(state="queued", sent=None)

    def it_goes(execute, *statement):
        result = execute(*statement)
        if not went:
            went.append(None)
            Call.objects.filter(state="queued").update(state="sent", sent=timezone.now())
        return result

    went = []
    with connection.execute_wrapper(it_goes):
        call_rows.lose(Call.objects.all())
    assert Call.objects.get().state == "ended"


def test_the_rows_of_calls_that_nobody_was_told_of_say_that_they_were_never_sent(recorder, answer_is_lost):
    calls = [
        NewCall(Call.Purpose.ANSWER, plans.model_of(recorder.claim.stored, seat), Slot(Stage.ANSWERING, seat))
        for seat in range(3)
    ]
    with pytest.raises(OperationalError):
        recorder.send(calls)
    sent = recorder.send(calls)
    never = Call.objects.exclude(pk__in=[each.id for each in sent])
    assert [(each.state, each.outcome, each.error) for each in never] == [("ended", "failed", call_rows.UNHEARD)] * 3
    assert set(Call.objects.filter(pk__in=[each.id for each in sent]).values_list("state", flat=True)) == {"sent"}


def test_so_they_do_where_nobody_waits_for_them_any_more_and_the_deliberation_ends(recorder, answer_is_lost):
    call = NewCall(Call.Purpose.ANSWER, plans.model_of(recorder.claim.stored, 0), Slot(Stage.ANSWERING, 0))
    with pytest.raises(OperationalError):
        recorder.send([call])
    recorder.write(recorder.change([StageStarted(Stage.ANSWERING, (0, 1, 2)), Ended(Status.FAILED, "Too late.")]))
    never = Call.objects.get()
    assert (never.state, never.outcome, never.error) == ("ended", "failed", call_rows.UNHEARD)
