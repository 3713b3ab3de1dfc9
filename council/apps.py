from django.apps import AppConfig


class CouncilConfig(AppConfig):
    """How a council deliberates."""

    name = "council"
