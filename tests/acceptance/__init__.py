"""The whole system with real processes, as a user meets it."""
