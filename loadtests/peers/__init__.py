"""Other servers of the same network: each folder serves one unpacked archive as its own documentation recommends."""
