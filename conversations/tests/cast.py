"""Who plays in the tests: Alice owns, Bob is a colleague, and a council stands ready at an address."""

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from accounts.models import User
from accounts.signed_in import SessionStore
from council.models import Council, LanguageModel, Provider, Seat


def alice() -> User:
    return User.objects.create_user("alice@example.org", "correct horse battery", name="Alice")


def bob() -> User:
    return User.objects.create_user("bob@example.org", "correct horse battery", name="Bob")


def session_of(user, **more) -> str:
    """The cookie of someone who has signed in, with what else stands in their session."""
    session = SessionStore()
    session.update(more)
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return session.session_key


def council(url: str = "http://127.0.0.1:9/v1", members: int = 3, slug: str = "test", **seat) -> Council:
    """A council of `members` models and a chairman at one provider."""
    provider, _ = Provider.objects.get_or_create(
        slug="test", defaults={"name": "Test", "base_url": url, "api_key": "sk-test", "private_address": True}
    )
    made = Council.objects.create(slug=slug, name=f"Council {slug}")
    for position in range(members + 1):
        model = LanguageModel.objects.create(
            approval="approved",
            provider=provider,
            slug=f"{slug}-{position}",
            model_id=f"{slug}-{position}",
            name=f"Model {position}",
            input_price=1_000_000,
            output_price=2_000_000,
            context=100_000,
        )
        role = Seat.Role.MEMBER if position < members else Seat.Role.CHAIRMAN
        Seat.objects.create(council=made, role=role, position=position, language_model=model, **seat)
    return made
