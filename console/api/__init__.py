"""The console's plain HTTP API."""
