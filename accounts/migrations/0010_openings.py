from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0009_words_of_limits'),
    ]

    operations = [
        migrations.AlterField(
            model_name='limit',
            name='what',
            field=models.CharField(choices=[('asks', 'questions asked'), ('going', 'deliberations at the same time'), ('sockets', 'open pages at the same time, in one process'), ('messages', 'messages from open pages, to one process'), ('openings', 'connections that pages open, to one process'), ('sign-ins', 'tries to sign in that fail'), ('links', 'shared links opened'), ('acts', 'exports, links, names, deletions, second factors')], max_length=10),
        ),
    ]
