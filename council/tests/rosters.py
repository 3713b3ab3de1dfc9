"""Rosters in the database."""

from typing import Any

from council.models import Council, LanguageModel, Provider, Seat

KEY = "sk-secret-0123456789-wxyz"


def provider(url: str = "http://127.0.0.1:9/v1", slug: str = "fake", **values: Any) -> Provider:
    given = {"name": slug.title(), "base_url": url, "api_key": KEY, "private_address": True, **values}
    return Provider.objects.create(slug=slug, **given)


def model(of: Provider, name: str = "alpha", **values: Any) -> LanguageModel:
    given = {
        "slug": f"{of.slug}-{name}",
        "model_id": f"fake/{name}",
        "name": name.title(),
        "input_price": 1_000_000,
        "output_price": 2_000_000,
        "approval": "approved",
        **values,
    }
    return LanguageModel.objects.create(provider=of, **given)


def council(of: Provider, slug: str = "test", **values: Any) -> Council:
    """Members Alpha, Beta and Gamma; Delta in the chair."""
    made = Council.objects.create(slug=slug, name=f"Council {slug}", **values)
    for position, name in enumerate(("alpha", "beta", "gamma", "delta")):
        seated = LanguageModel.objects.filter(slug=f"{of.slug}-{name}").first() or model(of, name)
        role = Seat.Role.CHAIRMAN if name == "delta" else Seat.Role.MEMBER
        Seat.objects.create(council=made, role=role, position=position, language_model=seated)
    return made
