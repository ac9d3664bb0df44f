"""The experiment file: schema, YAML parser and error messages."""
