from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0004_links'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='conversation',
            options={'ordering': ('-updated', '-id'), 'permissions': (('ask', 'Can ask councils'), ('export', 'Can export conversations of their own'), ('share', 'Can share conversations of their own with the team'), ('share_publicly', 'Can share them with anyone who has the link, where the site allows that'), ('read_others', 'Can read conversations of others, for a reason that is written down'))},
        ),
    ]
