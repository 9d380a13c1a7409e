"""What operators see of a running fleet."""
