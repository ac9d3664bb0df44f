"""The experiment file as a JSON schema, for editors.

Regenerate it with `python -m latte_cli.core.settings.json_schema > configs/latte.schema.json`.
"""

import json
import sys

from latte_cli.core.settings.schema import Settings


def schema_text() -> str:
    """The schema as indented JSON."""
    schema = Settings.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
