"""What a key may do, apart from keys: the command names scopes without loading what keys are made of."""

from typing import Literal, get_args

Scope = Literal["predict", "review", "payloads", "admin"]
"""Ask about pictures, label what waits for review, tell what servers answered, or everything."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
