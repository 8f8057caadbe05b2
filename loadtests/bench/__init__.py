"""Comparisons of visor with the bare network, with its own parts and with other servers, on one machine."""
