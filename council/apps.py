from django.apps import AppConfig


class CouncilConfig(AppConfig):
    """How a council deliberates."""

    name = "council"

    def ready(self) -> None:
        """Have retries told in our own words; stamina's would carry what a provider said."""
        import stamina.instrumentation  # noqa: PLC0415  # only once Django is ready

        from council import measuring  # noqa: PLC0415  # it needs the models

        stamina.instrumentation.set_on_retry_hooks([measuring.retried])
