from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who you are: people, their sign-in, the first administrator."""

    name = "accounts"
