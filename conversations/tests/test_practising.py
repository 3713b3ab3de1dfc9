"""The practice council with its real model, which may say anything: that it deliberates, and not what it says."""

import json

import pytest

from conversations import asking
from conversations.tests.worker import carry_out
from council import defaults
from council.models import Council

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes, pytest.mark.timeout(300)]


def test_it_answers_votes_and_sums_up(alice):
    defaults.ensure_council(practice=True)
    # Few words, for the sake of time. A ballot ends where its schema does: it is not cut off.
    Council.objects.update(answer_tokens=40, review_tokens=800, synthesis_tokens=40)
    found = carry_out(asking.ask(alice, "What is the capital of France?", Council.objects.get(slug="practice")))
    assert found.practice
    assert found.reason in {"", "The council's answer was cut off."}
    assert [bool(each.text.strip()) for each in (*found.answers.all(), found.synthesis)] == [True] * 4
    ballots = {each.seat: each.ballot_state for each in found.reviews.all()}
    said = {each.seat: "abstained" if json.loads(each.text)["abstain"] else "valid" for each in found.reviews.all()}
    assert ballots == said
    assert len(ballots) == 3
