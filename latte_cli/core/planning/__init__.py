"""Plans: what a command will do, and its estimated cost. Does not import MindSpore."""
