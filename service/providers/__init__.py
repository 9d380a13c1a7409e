"""Payment providers: the port, its adapters, and the guard around any of them."""
