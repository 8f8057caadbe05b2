"""A module for each subcommand: `add` declares its flags, and its handler calls one job and prints what came out."""
