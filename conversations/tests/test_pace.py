import pytest

from conversations.pace import CHECKPOINT, FRAME, Pace


@pytest.mark.parametrize(("count", "seconds"), [(1, 0.5), (5, 0.5), (6, 0.6), (20, 2.0), (1000, 2.0)])
def test_the_more_there_are_the_less_often_each_has_its_turn(count, seconds):
    assert Pace(0.5, 0.1, 2.0).seconds(count) == pytest.approx(seconds)


@pytest.mark.parametrize("pace", [FRAME, CHECKPOINT])
def test_few_notice_nothing_and_many_have_a_bounded_part_together(pace):
    assert pace.seconds(10) == pace.least
    assert 50 / pace.seconds(50) < 0.6 * 50 / pace.least
