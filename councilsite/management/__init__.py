"""Management commands live here, as Django wants it."""
