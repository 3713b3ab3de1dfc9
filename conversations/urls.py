"""Addresses of a person's conversations, and of links to them."""

from django.urls import path

from conversations import share_views, views

urlpatterns = [
    path("", views.ask, name="ask"),
    path("history/", views.history, name="history"),
    path("c/<uuid:conversation_id>/", views.conversation, name="conversation"),
    path("c/<uuid:conversation_id>/changes/", views.changed, name="changes"),
    path("c/<uuid:conversation_id>/calls/<int:turn>/", views.calls, name="calls"),
    path("c/<uuid:conversation_id>/export.md", views.export, {"form": "markdown"}, name="export_markdown"),
    path("c/<uuid:conversation_id>/export.json", views.export, {"form": "json"}, name="export_json"),
    path("c/<uuid:conversation_id>/stop/", views.stop, name="stop"),
    path("c/<uuid:conversation_id>/retry/", views.retry, name="retry"),
    path("c/<uuid:conversation_id>/rename/", views.rename, name="rename"),
    path("c/<uuid:conversation_id>/delete/", views.delete, name="delete"),
    path("c/<uuid:conversation_id>/restore/", views.restore, name="restore"),
    path("c/<uuid:conversation_id>/share/", share_views.share, name="share"),
    path("settings/links/", share_views.links, name="links"),
    path("settings/links/revoke/", share_views.revoke_links, name="revoke-links"),
    path("s/<str:token>/", share_views.shared, name="shared"),
    path("s/<str:token>/changes/", share_views.shared_changes, name="shared-changes"),
    path("s/<str:token>/calls/<int:turn>/", share_views.shared_calls, name="shared-calls"),
    path("s/<str:token>/copy/", share_views.copy, name="copy"),
]
