"""What nobody wishes for, done to the whole system on purpose: `make chaos`."""
