"""Slots that are tried again in tests, and the turn that they are of."""

from accounts.models import User
from conversations import asking
from conversations.models import Turn
from conversations.tests.worker import carry_out
from council.core.values import CHAIRMAN, Slot, Stage
from council.models import Council

B = {"kind": "answer", "model": "test-1"}
ANSWER_B, REVIEW_A = Slot(Stage.ANSWERING, 1), Slot(Stage.REVIEWING, 0)
CHAIR = Slot(Stage.SYNTHESISING, CHAIRMAN)


def ask(alice: User, council: Council) -> Turn:
    """A turn whose deliberation has ended."""
    turn = asking.ask(alice, "What now?", council)
    carry_out(turn)
    return turn
