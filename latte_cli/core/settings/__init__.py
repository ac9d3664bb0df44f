"""The experiment file: its sections, the rules between them, and reading and writing it."""
