from django.db import migrations, models

EARLIER = models.JSONField(
    null=True,
    help_text="While it is tried again, or a fallback model is asked once its own broke off: what it had, which stays"
    " unless something better comes.",
)


class Migration(migrations.Migration):
    dependencies = [("council", "0010_models_asked")]

    operations = [
        migrations.AlterField(model_name=name, name="earlier", field=EARLIER)
        for name in ("answer", "review", "synthesis")
    ]
