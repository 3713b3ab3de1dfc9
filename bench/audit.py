"""What the audit trail costs: `python -m bench.audit`.

How long `verify_audit` takes over a million events, and what a question takes longer because it is told. Both over a
database of its own on the same machine. Questions are stored in turn with the event and with a statement that does
nothing in its place, so that a machine that changes its pace changes it for both.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from cryptography.fernet import Fernet

from bench.history import pace

FILL = """
    INSERT INTO governance_event (actor, kind, object_type, object_id, details)
    SELECT gen_random_uuid(), 'asked', 'deliberation', gen_random_uuid()::text, jsonb_build_object(
        'mode', 'full', 'council', 'frontier', 'question', md5(number::text) || md5(number::text), 'earlier', 0,
        'models', jsonb_build_array(
            jsonb_build_object('model', 'openai/gpt-5.1', 'provider', 'OpenRouter'),
            jsonb_build_object('model', 'google/gemini-3-pro-preview', 'provider', 'OpenRouter'),
            jsonb_build_object('model', 'anthropic/claude-sonnet-4.5', 'provider', 'OpenRouter')
        )
    ) FROM generate_series(1, %s) AS number
"""
AT_A_TIME = 100_000


def main() -> None:
    """Print one JSON object for each of the two."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=300, help="with the event, and as many without")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from councilsite import postgres  # noqa: PLC0415  # before Django, whose settings need the database

        server = postgres.Server(Path(folder))
        server.start()
        try:
            address = f"host={server.sockets} user={postgres.USER} dbname={postgres.DATABASE}"
            os.environ |= {
                "VAR_DIR": folder,
                "DATABASE_URL": address,
                "SECRET_KEY": "only for a bench, and of fair length",
            }
            os.environ |= {
                "FIELD_KEYS": Fernet.generate_key().decode(),
                "DJANGO_SETTINGS_MODULE": "councilsite.settings",
            }
            _measure(given.events, given.questions)
        finally:
            server.stop()


def _measure(events: int, questions: int) -> None:
    import django  # noqa: PLC0415  # once there is a database

    django.setup()

    from django.core.management import call_command  # noqa: PLC0415  # needs django.setup()
    from django.db import connection  # noqa: PLC0415  # the same

    from governance import chain  # noqa: PLC0415  # the same

    call_command("migrate", verbosity=0)
    _questions(questions)
    began = time.perf_counter()
    with connection.cursor() as cursor:
        for first in range(0, events, AT_A_TIME):
            cursor.execute(FILL, [min(AT_A_TIME, events - first)])
    filled = time.perf_counter() - began
    began = time.perf_counter()
    found = chain.verify()
    seconds = time.perf_counter() - began
    told = {"events": found.events, "seconds to verify": round(seconds, 1), "wrong": found.wrong}
    print(
        json.dumps({**told, "seconds to insert": round(filled), "machine, µs a fixed loop": pace()}, ensure_ascii=False)
    )
    connection.close()
    connection.close_pool()


def _questions(count: int) -> None:
    from accounts.models import User  # noqa: PLC0415  # models exist only after django.setup()
    from conversations import asking  # noqa: PLC0415  # the same
    from council import trail as of_council  # noqa: PLC0415  # the same
    from council.models import Council, Deliberation, LanguageModel, Provider, Seat  # noqa: PLC0415  # the same

    person = User.objects.create_user("bench@example.org")
    asking.often = lambda _user: None  # type: ignore[assignment]  # all of them are one person's
    provider = Provider.objects.create(slug="bench", name="Bench", base_url="https://bench.example/v1")
    council = Council.objects.create(slug="bench", name="Bench")
    for position in range(5):
        model = LanguageModel.objects.create(
            provider=provider, slug=f"m{position}", model_id=f"m{position}", name=f"M {position}", approval="approved"
        )
        role = Seat.Role.MEMBER if position < 4 else Seat.Role.CHAIRMAN
        Seat.objects.create(council=council, role=role, position=position, language_model=model)
    told = of_council.asked
    ways = {"with": told, "without": lambda *_: ("SELECT 1", [])}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(count + 5):
        for name, way in ways.items():
            of_council.asked = way  # type: ignore[assignment]  # in its place
            began = time.perf_counter()
            asking.ask(person, f"Question {number}?", council)
            if number >= 5:  # the first in a connection prepare what they say
                taken[name].append((time.perf_counter() - began) * 1000)
            Deliberation.objects.filter(status__in=Deliberation.UNFINISHED).update(status="complete")
    of_council.asked = told
    medians = {name: statistics.median(values) for name, values in taken.items()}
    line = {f"question, ms, {name}": round(value, 2) for name, value in medians.items()}
    added = medians["with"] - medians["without"]
    print(json.dumps({**line, "added, ms": round(added, 2), "machine, µs a fixed loop": pace()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
