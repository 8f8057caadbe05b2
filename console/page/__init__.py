"""The page for people: pictures, batches, releases and drift, rendered by the console itself."""
