"""A page for people, a plain HTTP API and a review queue in front of one or more visor servers."""
