"""The command line: thin commands on top of `latte_cli.core`, and all output."""
