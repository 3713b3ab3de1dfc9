from django.apps import AppConfig


class CouncilConfig(AppConfig):
    """How a council deliberates."""

    name = "council"

    def ready(self) -> None:
        """Retries are told by Call rows; stamina's own log lines would carry what a provider said."""
        import stamina.instrumentation  # noqa: PLC0415  # only once Django is ready

        stamina.instrumentation.set_on_retry_hooks([])
