"""The ground floor: what every other part may rely on."""
