"""Payment intents: what a payer creates and reads."""
