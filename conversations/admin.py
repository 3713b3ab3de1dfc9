"""What it means for conversations that an administrator deactivates somebody."""

from django.contrib import admin

from accounts.admin import people
from accounts.models import User
from conversations import deleting

# In the place of the floor below's own, which knows nothing of conversations.
admin.site.unregister(User)


@admin.register(User)
class PersonAdmin(people.PersonAdmin):
    """People. Whoever is deactivated leaves nothing running."""

    def turn_out(self, person: User) -> None:
        """Stop what the council does for them, too."""
        super().turn_out(person)
        deleting.cancel_all_of(person)
