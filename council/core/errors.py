"""Every exception of the engine. The docstring is the message unless a better one is given."""

from council.core.values import Outcome


class CouncilError(Exception):
    """The council cannot go on."""

    outcome = Outcome.FAILED

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class PromptTooLong(CouncilError):
    """The question does not fit into what this model can read."""


class Stale(CouncilError):
    """Another worker has taken this deliberation over."""


class ProviderError(CouncilError):
    """The provider could not answer."""

    retry = False


class Unreachable(ProviderError):
    """The provider cannot be reached. Check its base address, and that it is up."""

    retry = True


class ProviderGone(ProviderError):
    """The provider has been removed or switched off."""


class WrongKey(ProviderError):
    """The provider refused the API key. An administrator can correct it in the admin, under Providers."""


class UnreadableKey(ProviderError):
    """The provider's API key cannot be read. An administrator can enter it again."""


class NoCredit(ProviderError):
    """The provider wants to be paid: the account behind the API key has no credit left."""


class NotFound(ProviderError):
    """The provider knows no such model, or its base address is not that of an OpenAI-compatible service."""


class Rejected(ProviderError):
    """The provider rejected the request."""


class SchemaRefused(Rejected):
    """The provider does not take a JSON schema."""


class ContextExceeded(Rejected):
    """The prompt is longer than this model can read."""


class RateLimited(ProviderError):
    """The provider is asked too often just now. Try again in a moment."""

    retry = True

    def __init__(self, message: str = "", after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class ServerFailed(ProviderError):
    """The provider failed on its side."""

    retry = True


class NotTheProtocol(ProviderError):
    """What came back is not the OpenAI-compatible protocol. Check the provider's base address."""


class HungUp(ProviderError):
    """The provider closed the connection without an answer."""

    retry = True


class BrokeOff(ProviderError):
    """The stream broke off before the end."""


class TooSlow(ProviderError):
    """The model took too long."""

    outcome = Outcome.TIMED_OUT
