"""The V2 protocol over HTTP: routes, bodies, compression, the page of the interface."""
