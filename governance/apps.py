from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GovernanceConfig(AppConfig):
    """The ground floor: what keeps secrets secret, and tells what was done. Knows nothing of the floors above."""

    name = "governance"
    verbose_name = _("Audit trail")
