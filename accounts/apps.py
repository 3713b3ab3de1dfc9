from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who you are: people, their sign-in, the first administrator."""

    name = "accounts"

    def ready(self) -> None:
        """Sign-ins are told of in the audit trail."""
        from accounts import trail  # noqa: PLC0415  # needs the models

        trail.connect()
