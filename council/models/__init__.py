"""The rosters, and what deliberations leave behind."""

from council.models.deliberations import Answer, Call, Contribution, Deliberation, Review, Synthesis
from council.models.rosters import Council, CouncilQuerySet, LanguageModel, Provider, Seat

__all__ = [
    "Answer",
    "Call",
    "Contribution",
    "Council",
    "CouncilQuerySet",
    "Deliberation",
    "LanguageModel",
    "Provider",
    "Review",
    "Seat",
    "Synthesis",
]
