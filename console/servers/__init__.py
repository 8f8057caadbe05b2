"""The V2 servers behind the console: what they say of their models, and how they are asked."""
