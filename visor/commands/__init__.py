"""Commands of `visor`, a module each: its parser and what it runs."""
