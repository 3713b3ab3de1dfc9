"""What a card shows."""

from django.utils.translation import get_language, override

from conversations import cards
from conversations.cards import CardView, SeatView


def card(**values) -> CardView:
    seat = SeatView(0, "A", "Alpha", "alpha-1", practice=False, hue=1)
    given = {
        "id": "d1-answer-0",
        "seat": seat,
        "state": "complete",
        "word": "done",
        "closed": "<p>Text.</p>",
        "open": "",
        "error": "",
        "growing": False,
        "started": None,
        "seconds": 1.0,
        "tokens": 3,
        "cost": None,
        "estimated": False,
        "revision": 2,
        "stage": "answering",
        "current": False,
    }
    return CardView(**given | values)


def test_a_card_that_has_ended_is_drawn_once_in_each_language(monkeypatch):
    drawn = []

    def draw(_template, _shown):
        drawn.append(get_language())
        return f"in {get_language()}"

    monkeypatch.setattr(cards, "render_to_string", draw)
    cards.drawn.cache_clear()
    try:
        for language in ("en", "de", "en", "de"):
            with override(language):
                assert card().html == f"in {language}"
        assert drawn == ["en", "de"]
    finally:
        cards.drawn.cache_clear()


def test_a_card_that_grows_is_drawn_each_time():
    assert (
        card(growing=True, state="writing", open="<p>One").html != card(growing=True, state="writing", open="Two").html
    )


def test_another_outcome_is_another_word():
    words = [cards.outcome_word(each) for each in cards.Outcome]
    assert len(set(words)) == len(words)
