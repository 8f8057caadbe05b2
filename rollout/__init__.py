"""This package moves a release's traffic through the Kubernetes API, by the weights of the routes before its two versions."""
