"""The composition root: settings, addresses, the server's entry points, the commands that start it all."""
