"""What a web server serves: pages, and the sockets of live pages."""

import os
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from councilsite import postgres

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "councilsite.settings")

if not os.environ.get("DATABASE_URL") and not postgres.running(settings.VAR_DIR):
    raise SystemExit("There is no database: set DATABASE_URL, or use `python manage.py up`, which brings its own.")

django.setup()

# Models exist only from here on.
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402  # settings come first
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402  # settings come first
from channels.sessions import CookieMiddleware  # noqa: E402  # settings come first
from django.urls import re_path  # noqa: E402  # settings come first
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # noqa: E402  # settings come first

from conversations.routing import websocket_urlpatterns  # noqa: E402  # settings come first
from councilsite import metrics  # noqa: E402  # settings come first
from councilsite.incoming import identified  # noqa: E402  # settings come first
from councilsite.pages import Pages  # noqa: E402  # settings come first
from councilsite.readiness import with_probes  # noqa: E402  # settings come first
from councilsite.turns import in_turns  # noqa: E402  # settings come first


async def refuse(_scope: Any, receive: Any, send: Any) -> None:
    """Close a socket at an address where there is none, before it opens."""
    await receive()
    await send({"type": "websocket.close"})


sockets = URLRouter([*websocket_urlpatterns, re_path("", refuse)])
protocols = ProtocolTypeRouter(
    {"http": with_probes(in_turns(Pages())), "websocket": AllowedHostsOriginValidator(CookieMiddleware(sockets))}
)
application = identified(protocols)
if settings.TRUSTED_PROXIES:
    application = ProxyHeadersMiddleware(application, settings.TRUSTED_PROXIES)

try:
    metrics.serve(os.environ)
except (CommandError, ImproperlyConfigured) as error:
    raise SystemExit(f"{error}") from error
