"""The commands of training, each wiring the packages below it: one module a command, and what several share."""
