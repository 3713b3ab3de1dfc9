"""The fault suite: the site as processes of their own, everything that can break between them, and what must hold."""
