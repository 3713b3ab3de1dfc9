"""Fields whose content the database never sees in the clear."""

from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Text encrypted with the installation's key ring (Fernet: AES-128-CBC and HMAC-SHA256).

    The newest key encrypts, every key of the ring decrypts. Empty text stays empty. The column cannot be searched.
    Reading raises ImproperlyConfigured when no key of the ring fits, because going on would send an empty key out.
    """

    def get_prep_value(self, value: Any) -> Any:
        """Encrypt on the way to the database."""
        text = super().get_prep_value(value)
        return _ring().encrypt(text.encode()).decode() if text else text

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        """Decrypt on the way from it. Raises ImproperlyConfigured."""
        if not value:
            return value
        try:
            return _ring().decrypt(value.encode()).decode()
        except InvalidToken as error:
            raise ImproperlyConfigured(
                f"{self.model._meta.label}.{self.name} was encrypted with a key that is not in FIELD_KEYS. "
                "Put the key it was written with back at the end of the ring."
            ) from error


def _ring() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_KEYS])
