"""`python -m latte_cli` is `latte`."""

import sys


def main() -> None:
    """The `latte` command; Ctrl-C while it is imported is one line, too."""
    try:
        from latte_cli.cli.app import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
