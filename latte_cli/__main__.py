"""`python -m latte_cli` is `latte`."""

from latte_cli.cli.app import main

main()
