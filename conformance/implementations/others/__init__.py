"""The second roster: one adapter per other library, each in an environment of its own; no default run asks them."""
