"""The command `visor`: one module a command, thin over the packages."""
