"""`python -m latte_cli` is `latte`."""

from latte_cli.cli import main

main()
