import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0006_pseudonyms'),
    ]

    operations = [
        migrations.AddField(
            model_name='sitesettings',
            name='factor_grace_days',
            field=models.PositiveSmallIntegerField(db_default=7, default=7, help_text="Whoever may enter the administration needs a second factor. So many days after an account was made it may do without, the first administrator's too. 0: from the start.", validators=[django.core.validators.MaxValueValidator(365)], verbose_name='days without a second factor'),
        ),
    ]
