"""The addresses of sockets."""

from django.urls import path

from conversations.consumers import ConversationConsumer
from conversations.share_consumers import ShareConsumer

websocket_urlpatterns = [
    path("ws/c/<uuid:conversation_id>/", ConversationConsumer.as_asgi(), name="conversation-socket"),
    path("ws/s/<str:token>/", ShareConsumer.as_asgi(), name="share-socket"),
]
