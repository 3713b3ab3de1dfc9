import random
import re

import pytest

from council.core import aliases

RNG = random.Random(7)


def test_a_label_is_short_and_no_word():
    for label in aliases.draw_labels(50, RNG):
        assert re.fullmatch(r"[B-DF-HJ-NP-TV-Z][2-9]{2}", label)


def test_labels_of_one_drawing_differ():
    labels = aliases.draw_labels(200, RNG)
    assert len(set(labels)) == 200


def test_a_label_never_stands_in_the_text_at_hand():
    for seed in range(30):
        text = " ".join(aliases.draw_labels(600, random.Random(seed)))
        assert not any(label in text for label in aliases.draw_labels(20, random.Random(seed), text))


def test_a_text_that_holds_every_short_label_is_no_trap():
    every = " ".join(f"{a}{b}{c}" for a in aliases._LETTERS for b in aliases._DIGITS for c in aliases._DIGITS)
    labels = aliases.draw_labels(5, RNG, every)
    assert len(set(labels)) == 5
    assert not any(label in every for label in labels)


def test_an_order_has_every_seat_once():
    order = aliases.draw_order(9, RNG)
    assert sorted(order.seats) == list(range(9))
    assert len(set(order.labels)) == 9


def test_orders_and_labels_are_drawn_anew_for_each_reviewer():
    orders = [aliases.draw_order(4, RNG) for _ in range(100)]
    assert len({order.seats for order in orders}) > 15, "of 24 orders"
    first_shown = [order.seats[0] for order in orders]
    assert all(first_shown.count(seat) > 5 for seat in range(4)), "nobody is always first"
    assert len({order.labels for order in orders}) == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K73 beats Q42.", "A beats B."),
        ("(K73), **Q42**: `K73`", "(A), **B**: `A`"),
        ("K73's", "A's"),
        ("K735 and XK73 and K73_ stay", "K735 and XK73 and K73_ stay"),
        ("k73 stays", "k73 stays"),
        ("ÄK73 stays, K73中 too", "ÄK73 stays, K73中 too"),
        ("", ""),
    ],
)
def test_labels_are_rewritten_as_whole_words(text, expected):
    assert aliases.rewrite(text, {"K73": "A", "Q42": "B"}) == expected


def test_labels_that_change_places_are_rewritten_at_once():
    assert aliases.rewrite("K73 > Q42", {"K73": "Q42", "Q42": "K73"}) == "Q42 > K73"


def test_without_labels_a_text_stays():
    assert aliases.rewrite("K73", {}) == "K73"


def test_a_label_with_signs_is_no_pattern():
    assert aliases.rewrite("a.c abc", {"a.c": "X"}) == "X abc"


def test_members_are_known_by_letters():
    assert [aliases.letter(seat) for seat in (0, 1, 25, 26, 27, 52)] == ["A", "B", "Z", "A2", "B2", "A3"]
