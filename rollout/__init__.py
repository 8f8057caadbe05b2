"""Moves a release's traffic through the Kubernetes API: the weights of the routes before a stable version and its canary."""
