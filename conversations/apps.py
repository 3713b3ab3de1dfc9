from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    """What a person sees: conversations, turns, the live page."""

    name = "conversations"
