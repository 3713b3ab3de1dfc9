"""What stands in the address of a link: whoever has it may open it, so the database alone must not do to make one.

A row keeps two things of its token: a digest, which it is looked up by, and, for whoever may copy the link again, the
token itself, encrypted (`governance.fields`).
"""

import hashlib
import secrets


def new_token() -> str:
    """256 bits that nobody guesses, as 43 characters for an address."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What a link is looked up by: SHA-256 of its token, as 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()
