from django.apps import AppConfig


class GovernanceConfig(AppConfig):
    """The ground floor: what keeps secrets secret. Knows nothing of the floors above."""

    name = "governance"
