"""Removing one picture from all that trainings have left: what is looked for, and how each kind of file is rid of it."""
