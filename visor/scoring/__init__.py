"""Batch scoring (`visor score`): an archive answers for many images without a server."""
