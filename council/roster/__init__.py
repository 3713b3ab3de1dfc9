"""The roster as a file: providers, models and councils in TOML, to be reviewed, versioned and loaded anywhere."""
