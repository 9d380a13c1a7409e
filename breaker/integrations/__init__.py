"""What the breaker does for other libraries: one module for each, to be installed as the extra of its name."""
