"""The review queue: what a model is unsure of waits for a person, whose labels say how it does and improve the next one."""

import logging

logging.getLogger("alembic").setLevel(logging.WARNING)  # its lines, the first while it is imported, tell nobody anything
