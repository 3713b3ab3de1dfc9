"""Addresses of a person's conversations."""

from django.urls import path

from conversations import views

urlpatterns = [
    path("", views.ask, name="ask"),
    path("history/", views.history, name="history"),
    path("c/<uuid:conversation_id>/", views.conversation, name="conversation"),
    path("c/<uuid:conversation_id>/changes/", views.changed, name="changes"),
    path("c/<uuid:conversation_id>/export.md", views.export, {"form": "markdown"}, name="export_markdown"),
    path("c/<uuid:conversation_id>/export.json", views.export, {"form": "json"}, name="export_json"),
    path("c/<uuid:conversation_id>/stop/", views.stop, name="stop"),
    path("c/<uuid:conversation_id>/rename/", views.rename, name="rename"),
    path("c/<uuid:conversation_id>/delete/", views.delete, name="delete"),
    path("c/<uuid:conversation_id>/restore/", views.restore, name="restore"),
]
