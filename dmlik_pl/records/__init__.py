"""What was found, on disk: the store of records, what they are of, and how they are read."""
