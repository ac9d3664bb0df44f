"""The measurements of `latte bench`: one row per process, using the code of the commands."""
