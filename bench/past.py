"""Gives one person a long past: `python -m bench.past TURNS EACH`, EACH turns a conversation.

The one deliberation that is there already is copied for each turn, with its answers, reviews, synthesis and calls, by
the database itself. Twenty colleagues get half as many conversations between them, without answers. Prints, as JSON,
the addresses that `bench.history` asks for.
"""

import json
import os
import sys

import django

FIRST = ["Should we", "How do we", "When would you", "Why did we", "What if we", "Who decides whether we", "Can we"]
DO = ["replace", "keep", "price", "review", "document", "automate", "retire", "test", "migrate", "explain", "compare"]
WHAT = ["the invoices", "our caches", "the onboarding", "a second database", "the quarterly report", "the support rota"]
WHEN = ["before winter", "for new customers", "at the next release", "without more people", "in Zürich", "this month"]
# Half the titles have "we" and a question mark; one in five thousand has this.
RARE = "heliotrope"


def main() -> None:
    """Fill the tables of the person who asked; what comes from the models' fields holds for columns that come later."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "councilsite.settings")
    django.setup()

    from django.db import connection, transaction  # noqa: PLC0415  # needs django.setup()

    from conversations.history import Place  # noqa: PLC0415  # models exist only after django.setup()
    from conversations.models import Conversation, Turn  # noqa: PLC0415  # models exist only after django.setup()
    from council.models import Answer, Call, Deliberation, Review, Synthesis  # noqa: PLC0415  # as above

    turns, each = int(sys.argv[1]), int(sys.argv[2])
    mine = turns // each
    all_turns = turns + mine // 2
    asked = Turn.objects.select_related("conversation").get()
    owner = asked.conversation.owner_id
    given = {"mine": mine, "each": each, "turns": turns, "owner": owner, "rare": RARE}
    given |= {"first": FIRST, "do": DO, "what": WHAT, "when": WHEN, "deliberation": asked.deliberation_id}

    def copy(model, values: dict[str, str], numbers: str) -> None:
        """Rows of a model like those of the one deliberation, for each of the numbers `n`, with other values."""
        fields = [field.column for field in model._meta.concrete_fields if field.get_internal_type() != "BigAutoField"]
        key = "id" if model is Deliberation else "deliberation_id"

        connection.cursor().execute(
            f"INSERT INTO {model._meta.db_table} ({', '.join(fields)}) "
            f"SELECT {', '.join(values.get(name, f'old.{name}') for name in fields)} "
            f"FROM {numbers}, {model._meta.db_table} AS old WHERE old.{key} = %(deliberation)s",
            given,
        )

    # Conversations are numbered 1 to mine; those of colleagues follow, and lie between them in time. To the minute, so
    # that some were asked something at the same moment.
    at = "date_trunc('minute', now() - interval '3 years' * (hashint4({}) & 65535) / 65536.0)"
    of_turn = "(CASE WHEN n <= %(turns)s THEN (n - 1) / %(each)s + 1 ELSE n - %(turns)s + %(mine)s END)"
    conversation, deliberation = f"md5('c' || {of_turn})::uuid", "lpad(to_hex(n), 32, '0')::uuid"
    every, own = f"generate_series(1, {all_turns}) AS n", f"generate_series(1, {turns}) AS n"
    title = " || ' ' || ".join(
        f"(%({name})s::text[])[(hashint4(n + {salt}) & 65535) %% {len(words)} + 1]"
        for salt, (name, words) in enumerate({"first": FIRST, "do": DO, "what": WHAT, "when": WHEN}.items())
    )
    with connection.cursor() as cursor:
        # Nothing but what is asked for, neither while the tables are filled nor afterwards.
        for setting in ("autovacuum = off", "max_wal_size = '16GB'", "checkpoint_timeout = '1h'"):
            cursor.execute(f"ALTER SYSTEM SET {setting}")
        cursor.execute("SELECT pg_reload_conf()")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # keys are right by construction
        cursor.execute(
            "INSERT INTO conversations_conversation (id, owner_id, title, titled, created, updated) "
            f"SELECT md5('c' || n)::uuid, CASE WHEN n <= %(mine)s THEN %(owner)s ELSE %(owner)s + 1 + n %% 20 END, "
            f"{title} || ' (' || n || CASE WHEN n %% 5000 = 0 THEN ' ' || %(rare)s ELSE '' END || ')?', true, "
            f"{at.format('n')}, {at.format('n')} FROM generate_series(1, %(mine)s + %(mine)s / 2) AS n",
            given,
        )
        copy(Deliberation, {"id": deliberation, "scope": conversation, "created": at.format(of_turn)}, every)
        values = {"conversation_id": conversation, "deliberation_id": deliberation, "created": at.format(of_turn)}
        copy(Turn, values | {"request_id": deliberation}, every)
        for model in (Answer, Review, Synthesis, Call):
            # No two texts are the same, or what the site keeps of one would serve for all.
            copy(model, {"deliberation_id": deliberation, "text": "old.text || ' ' || n"}, own)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE conversations_conversation")
        cursor.execute("ANALYZE")
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        (size,) = cursor.fetchone()
    middle = Conversation.objects.filter(owner=owner)[mine // 2 : mine // 2 + 50]
    place = Place.of(middle[0]).as_text()
    told = {
        "rows": {
            model.__name__: model.objects.count() for model in (Conversation, Turn, Answer, Review, Synthesis, Call)
        },
        "database": size,
        "addresses": {
            "/": ["/"],
            "40 older lines, halfway": [f"/history/?before={place}&shown=40"],
            "the same without JavaScript": [f"/?before={place}"],
            "search that matches many": ["/history/?q=invoices"],
            "40 older lines of it, halfway": [f"/history/?q=invoices&before={place}&shown=40"],
            "search that matches few": [f"/history/?q={RARE}"],
            "search that matches none": ["/history/?q=xylophone"],
            "search for two letters that matches none": ["/history/?q=qx"],
            "a conversation": [middle[0].get_absolute_url()],
            "conversations, each for the first time": [each.get_absolute_url() for each in middle[1:]],
        },
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
