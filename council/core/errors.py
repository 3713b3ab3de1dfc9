"""Every exception of the engine. The docstring is the message unless a better one is given."""


class CouncilError(Exception):
    """The council cannot go on."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class PromptTooLong(CouncilError):
    """The question does not fit into what this model can read."""


class Stale(CouncilError):
    """Another worker has taken this deliberation over."""


class UnderWay(CouncilError):
    """The council is still at work on this question. Wait for its answer or stop it, then try again."""


class NotOffered(CouncilError):
    """There is nothing to be tried again here."""


class ProviderError(CouncilError):
    """The provider could not answer."""

    retry = False
    """Whether another attempt is worth while; a provider may say so itself (`x-should-retry`)."""

    after: float | None = None
    """Seconds that the provider asks to wait first (`Retry-After`)."""

    fault = False
    """Whether it tells against how the model does just now; what is wrong with the request or the key does not."""

    sent = True
    """Whether the request may have gone out."""

    unknown = False
    """Whether it may have been carried out all the same, where nothing of it came.

    It is sent again as often as after a silence, no more.
    """


class Unreachable(ProviderError):
    """The provider cannot be reached. Check its base address, and that it is up."""

    retry = fault = True
    sent = False


class PrivateAddress(ProviderError):
    """The provider's address is in a private network. An administrator can allow that, with the provider."""

    sent = False


class ProviderGone(ProviderError):
    """The model is not approved or in use any more, or has moved; or its provider has been switched off."""

    sent = False


class LeftAlone(ProviderError):
    """The model failed too often just now, and is left alone for a moment."""

    sent = False


class WrongKey(ProviderError):
    """The provider refused the API key. An administrator can correct it in the admin, under Providers."""


class UnusableKey(WrongKey):
    """The API key holds characters that no key has. An administrator can enter it again."""

    sent = False


class UnreadableKey(ProviderError):
    """The provider's API key cannot be read. An administrator can enter it again."""

    sent = False


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

    retry = fault = True


class ServerFailed(ProviderError):
    """The provider failed on its side."""

    retry = fault = True


class TimedOutThere(ServerFailed):
    """The provider, or a gateway before it, gave up waiting. The model may have been at it, and its work be billed."""

    unknown = True


class NotTheProtocol(ProviderError):
    """What came back is not the OpenAI-compatible protocol. Check the provider's base address."""

    fault = True


class HungUp(ProviderError):
    """The provider closed the connection without an answer."""

    retry = fault = unknown = True


class BrokeOff(ProviderError):
    """The stream broke off before the end."""

    fault = unknown = True
