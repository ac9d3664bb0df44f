"""The command line: thin commands over `latte_cli.core`, and everything that a user sees."""
