"""A deliberation as plain data, for programs. Seats are letters, money is micro-dollars, times are seconds."""

import json
from typing import Any

from django.db.models import Count, Q, Sum

from conversations.asking import chairman_text
from council.core import ballots, prompts
from council.core.aliases import letter, rewrite
from council.core.values import Plan
from council.models import Contribution, Deliberation
from council.plans import stand_in_of

# A terminal may obey these; JSON leaves them as they are.
_CONTROLS = {number: f"\\u{number:04x}" for number in range(0x7F, 0xA0)}


def written(said: dict[str, Any]) -> str:
    """Plain data as JSON, to be read by people too."""
    return json.dumps(said, ensure_ascii=False, indent=2).translate(_CONTROLS)


def as_json(deliberation: Deliberation) -> dict[str, Any]:
    """Who takes part, question, answers, reviews, standings, synthesis, seconds, cost.

    The synthesis is what the chairman wrote; how that ended stands with the chairman.
    """
    plan = Plan.from_json(deliberation.plan)
    synthesis = getattr(deliberation, "synthesis", None)
    stand_in = _stand_in(synthesis) if synthesis else ""
    return {
        "chairman": {
            "name": plan.chairman.name,
            "model": stand_in or deliberation.plan["models"][-1]["name"],
            "stand_in": stand_in,
            "outcome": synthesis.outcome if synthesis else "",
            "error": synthesis.error if synthesis else "",
        },
        "question": plan.question,
        "council": deliberation.council_name,
        "practice": deliberation.practice,
        "answers": [
            {
                "seat": letter(row.seat),
                "model": _stand_in(row) or deliberation.plan["models"][row.seat]["name"],
                "stand_in": _stand_in(row),
                "text": row.text,
                **_figures(row),
            }
            for row in deliberation.answers.all()
        ],
        "reviews": [
            {
                "seat": letter(row.seat),
                "stand_in": _stand_in(row),
                "outcome": row.outcome,
                "error": row.error,
                "ballot": {
                    "state": row.ballot_state,
                    "ranking": [[letter(seat) for seat in group] for group in row.ballot],
                    "reason": row.ballot_reason,
                },
                "text": rewrite(ballots.critique(row.text), prompts.to_letters(plan, row.seat)),
            }
            for row in deliberation.reviews.all()
        ],
        "standings": [{**each, "seat": letter(each["seat"])} for each in deliberation.standings],
        "synthesis": chairman_text(deliberation),
        "seconds": deliberation.elapsed.total_seconds() if deliberation.elapsed else None,
        **deliberation.calls.aggregate(cost=Sum("cost"), unknown_calls=Count("pk", filter=Q(unknown=True))),
    }


def _stand_in(row: Contribution) -> str:
    """The model that wrote in place of the seat's own, where one did."""
    stand_in = stand_in_of(row.deliberation.plan, row.stand_in)
    return stand_in["name"] if stand_in else ""


def _figures(row: Contribution) -> dict[str, Any]:
    return {
        "outcome": row.outcome,
        "error": row.error,
        "seconds": row.seconds,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost": row.cost,
    }
