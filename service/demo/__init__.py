"""`make demo`: plays an outage of the provider against a real fleet and shows what the fleet makes of it."""
