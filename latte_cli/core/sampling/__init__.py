"""From noise to files: clips of a run's model or of a pipeline."""
