"""Text conditions: the encoder of an experiment, and the states of its texts."""
