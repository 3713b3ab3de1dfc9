import random

import pytest

from council.core.scoring import standings
from council.core.values import Ballot, BallotState


def ballot(*groups, state=BallotState.VALID):
    return Ballot(tuple(groups), state)


def table(*ballots):
    return [(each.seat, each.place, each.mean, each.ballots) for each in standings(ballots)]


def test_the_standing_is_the_mean_of_positions():
    assert table(ballot((0,), (1,), (2,)), ballot((1,), (0,), (2,)), ballot((0,), (2,), (1,))) == [
        (0, 1, pytest.approx(4 / 3), 3),
        (1, 2, 2.0, 3),
        (2, 3, pytest.approx(8 / 3), 3),
    ]


def test_equal_means_share_a_place_and_the_next_is_left_out():
    assert [(seat, place) for seat, place, *_ in table(ballot((0,), (1, 2), (3,)))] == [(0, 1), (1, 2), (2, 2), (3, 4)]


def test_a_tie_has_the_mean_of_its_places():
    assert ballot((3,), (0, 1), (2,)).positions() == {3: 1.0, 0: 2.5, 1: 2.5, 2: 4.0}
    assert ballot((0, 1, 2)).positions() == {0: 2.0, 1: 2.0, 2: 2.0}


def test_an_answer_that_a_ballot_leaves_out_is_unranked_there_and_not_last():
    assert table(ballot((0,), (1,)), ballot((1,), (0,), (2,))) == [(0, 1, 1.5, 2), (1, 1, 1.5, 2), (2, 3, 3.0, 1)]


def test_an_answer_that_no_ballot_ranked_has_no_standing():
    assert [seat for seat, *_ in table(ballot((2,), (0,)))] == [2, 0]


@pytest.mark.parametrize("state", [BallotState.ABSTAINED, BallotState.INVALID])
def test_what_is_no_ballot_is_not_counted(state):
    assert table(ballot((1,), (0,), state=state), ballot((0,), (1,))) == [(0, 1, 1.0, 1), (1, 2, 2.0, 1)]


def test_a_repaired_ballot_counts():
    assert table(ballot((1,), (0,), state=BallotState.REPAIRED))[0][0] == 1


def test_without_ballots_there_are_no_standings():
    assert standings([]) == ()


def test_the_order_of_ballots_does_not_matter():
    rng = random.Random(3)
    ballots = [ballot(*[(seat,) for seat in rng.sample(range(5), rng.randint(1, 5))]) for _ in range(9)]
    expected = table(*ballots)
    for _ in range(20):
        rng.shuffle(ballots)
        assert [row[:2] for row in table(*ballots)] == [row[:2] for row in expected]
