"""The rosters, and what deliberations leave behind."""

from council.models.deliberations import Answer, Call, Contribution, Deliberation, Review, Synthesis
from council.models.policy import Breaker, CallPolicy, Place
from council.models.rosters import Council, CouncilQuerySet, Fallback, LanguageModel, Provider, Seat

__all__ = [
    "Answer",
    "Breaker",
    "Call",
    "CallPolicy",
    "Contribution",
    "Council",
    "CouncilQuerySet",
    "Deliberation",
    "Fallback",
    "LanguageModel",
    "Place",
    "Provider",
    "Review",
    "Seat",
    "Synthesis",
]
