"""What `latte bench` measures: rows, each in a process of its own, by what the commands call."""
