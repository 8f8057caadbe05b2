"""Archives between training and serving: reading, verifying, signing and storing them, and where they came from."""
