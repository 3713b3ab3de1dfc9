"""The rows of turns, read in one way."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations import asking, reading
from conversations.tests import cast
from council.models import Answer, Call, Deliberation, Review, Synthesis

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked():
    """Two turns, the first of them over."""
    alice, council = cast.alice(), cast.council()
    first = asking.ask(alice, "What now?", council)
    Deliberation.objects.update(status="complete", revision=9)
    second = asking.ask(alice, "And then?", council, conversation=first.conversation)
    other = asking.ask(cast.bob(), "What else?", council)
    for turn in (first, second, other):
        for seat in (2, 0, 1):
            Answer.objects.create(deliberation_id=turn.deliberation_id, seat=seat, text=f"{turn.pk}-{seat}")
            Review.objects.create(deliberation_id=turn.deliberation_id, seat=seat)
            Call.objects.create(deliberation_id=turn.deliberation_id, cost=seat or None, sent=timezone.now())
    Synthesis.objects.create(deliberation_id=first.deliberation_id)
    return first, second


def test_it_gives_all_that_belongs_to_each_turn(asked):
    first, second = reading.turns(asked[0].conversation_id)
    assert [first.turn, second.turn] == list(asked)
    for found, turn in ((first, asked[0]), (second, asked[1])):
        assert found.deliberation == Deliberation.objects.get(pk=turn.deliberation_id)
        assert [each.text for each in found.answers] == [f"{turn.pk}-{seat}" for seat in range(3)]
        assert [each.seat for each in found.reviews] == [0, 1, 2]
        assert found.cost == 3
    assert first.synthesis == Synthesis.objects.get()
    assert second.synthesis is None


def test_it_takes_one_way_to_the_database_however_many_turns_there_are(asked):
    with CaptureQueriesContext(connection) as queries:
        reading.turns(asked[0].conversation_id)
    assert len(queries) == 1


def test_it_gives_only_what_a_viewer_lacks(asked):
    conversation, (first, second) = asked[0].conversation_id, asked
    (one,) = reading.turns(conversation, second.pk, 0)
    assert (one.turn, one.answers) == (second, [])
    Deliberation.objects.filter(pk=second.deliberation_id).update(revision=5)
    assert len(reading.turns(conversation, second.pk, 4)[0].answers) == 3
    assert reading.turns(conversation, second.pk, 5)[0].answers == []
    behind, ahead = reading.turns(conversation, first.pk, 9)
    assert (behind.answers, len(ahead.answers)) == ([], 3)
    assert reading.turns(conversation, second.pk + 100, 0) == []


def test_without_a_price_there_is_no_cost(asked):
    Call.objects.update(cost=None)
    assert [each.cost for each in reading.turns(asked[0].conversation_id)] == [None, None]
