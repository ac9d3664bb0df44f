"""Sample clips from a run or a pipeline and write them to files."""
