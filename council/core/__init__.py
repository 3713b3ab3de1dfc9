"""The deliberation itself, in plain Python: no Django, no network, no database.

Read `deliberate.py` first.
"""
