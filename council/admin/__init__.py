"""The roster in the admin: providers, models and councils; and a look at deliberations and calls, without content.

What administrators type is checked here; what a model or a provider says is shown as text and never as markup.
"""

from council.admin import breakers, call_policy, councils, groups, language_models, providers, records

__all__ = ["breakers", "call_policy", "councils", "groups", "language_models", "providers", "records"]
