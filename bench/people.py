"""Makes the council and the people of the benchmark: `python -m bench.people PROVIDER-URL MEMBERS COUNT`.

Prints the keys of their sessions as a JSON list.
"""

import json
import os
import secrets
import sys

import django
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY


def main() -> None:
    """Reuse what an earlier call made."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "councilsite.settings")
    django.setup()

    from accounts import roles  # noqa: PLC0415  # models exist only after django.setup()
    from accounts.models import User  # noqa: PLC0415  # models exist only after django.setup()
    from accounts.signed_in import SessionStore  # noqa: PLC0415  # models exist only after django.setup()
    from council.models import Council, LanguageModel, Provider, Seat  # noqa: PLC0415  # models exist only after django.setup()

    url, members, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if not Council.objects.filter(slug="bench").exists():
        provider = Provider.objects.create(
            slug="bench", name="Bench", base_url=url, private_address=True, api_key="key"
        )
        council = Council.objects.create(slug="bench", name="Bench")
        for position in range(members + 1):
            model = LanguageModel.objects.create(
                approval="approved",
                provider=provider,
                slug=f"m{position}",
                model_id=f"m{position}",
                name=f"Model {position}",
                context=200_000,
            )
            role = Seat.Role.MEMBER if position < members else Seat.Role.CHAIRMAN
            Seat.objects.create(council=council, role=role, position=position, language_model=model)
    sessions = []
    for _ in range(count):
        person = User.objects.create(email=f"{secrets.token_hex(8)}@example.org", password="!")
        person.groups.add(roles.group(roles.Role.MEMBER))
        session = SessionStore()
        session[SESSION_KEY] = str(person.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = person.get_session_auth_hash()
        session.save()
        sessions.append(session.session_key)
    print(json.dumps(sessions))


if __name__ == "__main__":
    main()
