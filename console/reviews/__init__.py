"""The review queue: what a model is unsure of waits for a person, whose labels say how it does and improve the next one."""
