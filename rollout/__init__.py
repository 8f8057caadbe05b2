"""This package waits for a release and moves its traffic, through the Kubernetes API."""
