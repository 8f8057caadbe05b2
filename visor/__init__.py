"""The command `visor` takes a folder of images to a served classifier; each of its commands is one module over the packages."""
