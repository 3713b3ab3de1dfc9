"""A provider's own list of models: names, context sizes, prices and what they can do."""

from council.core.errors import CouncilError
from council.models import Provider


class NoCatalogue(CouncilError):
    """The provider's list of models cannot be read."""


def refresh(provider: Provider) -> None:
    raise NotImplementedError(provider)
