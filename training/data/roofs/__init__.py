"""Pictures of roofs, drawn by rules, with the damage's mask: the built-in data set `roofs`."""
