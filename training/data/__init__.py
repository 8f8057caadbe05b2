"""Images on disk: one loader for every source, a manifest with digests, splits that are the same every time."""
