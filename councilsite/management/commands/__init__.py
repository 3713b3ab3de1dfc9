"""`up` and `worker`."""
