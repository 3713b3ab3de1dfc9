"""Fields whose content the database never sees in the clear."""

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models.query_utils import DeferredAttribute


class _Sealed(str):
    """Text as it came from the database, encrypted."""

    __slots__ = ()


class _Opened(DeferredAttribute):
    """Decrypts when the attribute is looked at: a row can be read, and saved again, without its key."""

    field: "EncryptedTextField"

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if isinstance(value, _Sealed):
            value = instance.__dict__[self.field.attname] = self.field.open(value)
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        """Only with it Python asks `__get__` for what an instance has."""
        instance.__dict__[self.field.attname] = value


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Text encrypted with the installation's key ring (Fernet: AES-128-CBC and HMAC-SHA256).

    The newest key encrypts, every key of the ring decrypts. Empty text stays empty. The column cannot be searched, and
    `values()` gives it as it is stored. Looking at the attribute raises ImproperlyConfigured when no key of the ring
    fits, because going on would send an empty key out.
    """

    descriptor_class = _Opened

    def get_prep_value(self, value: Any) -> Any:
        """Encrypt on the way to the database; what was not looked at goes back as it came."""
        if isinstance(value, _Sealed):
            return str(value)
        text = super().get_prep_value(value)
        return seal(text) if text else text

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:  # noqa: ARG002, FBT001  # Django's signature
        """The attribute, unopened where nobody opened it."""
        return model_instance.__dict__.get(self.attname, "")

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        """Mark it as encrypted."""
        return _Sealed(value) if value else value

    def open(self, value: str) -> str:
        """The text. Raises ImproperlyConfigured."""
        return unseal(value, f"{self.model._meta.label}.{self.name}")


def seal(text: str) -> str:
    """The text, encrypted with the newest key of the ring."""
    return _ring().encrypt(text.encode()).decode()


def unseal(sealed: str, what: str = "This") -> str:
    """The text that was sealed. Raises ImproperlyConfigured, naming `what` it is, where no key of the ring fits."""
    try:
        return _ring().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise ImproperlyConfigured(
            f"{what} was encrypted with a key that is not in FIELD_KEYS. "
            "Put the key it was written with back at the end of the ring."
        ) from error


def sealed_anew(sealed: str) -> str:
    """The same, encrypted with the newest key. Raises InvalidToken where no key of the ring fits."""
    return _ring().rotate(sealed.encode()).decode()


def _ring() -> MultiFernet:
    return _ring_of(tuple(settings.FIELD_KEYS))


@lru_cache(maxsize=1)
def _ring_of(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
