"""Watching a release: drift, labels that come back, dashboards and alerts."""
