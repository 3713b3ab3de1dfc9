"""How the server writes dates, which no script puts into the reader's zone: as pages do, and the zone with it."""

DATE_FORMAT = "j M Y"
DATETIME_FORMAT = "j M Y, H:i T"
