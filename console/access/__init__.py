"""Who may ask the console: API keys, their scopes and their limits."""
