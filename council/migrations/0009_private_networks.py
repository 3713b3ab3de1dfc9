from urllib.parse import urlsplit

from django.db import migrations, models

from council.providers.addresses import is_obviously_private


def allow(apps, _schema_editor):
    """What was asked in a private network before goes on being asked there."""
    for provider in apps.get_model("council", "Provider").objects.exclude(base_url=""):
        if is_obviously_private(urlsplit(provider.base_url).hostname or ""):
            provider.private_address = True
            provider.save(update_fields=["private_address"])


class Migration(migrations.Migration):

    dependencies = [
        ('council', '0008_approval'),
    ]

    operations = [
        migrations.AddField(
            model_name='provider',
            name='private_address',
            field=models.BooleanField(db_default=False, default=False, help_text='Tick it for a server on this machine or in your own network. Otherwise nothing is sent to an address that only such networks have.', verbose_name='is in a private network'),
        ),
        migrations.RunPython(allow, migrations.RunPython.noop, elidable=True),
    ]
