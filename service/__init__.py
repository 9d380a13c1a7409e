"""The payment service: intents behind a circuit per provider operation that the whole fleet shares."""
