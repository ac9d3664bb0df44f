"""The checks of `latte doctor`: the installation, the machine, and the needs of an experiment."""
