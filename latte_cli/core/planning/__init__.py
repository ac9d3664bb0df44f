"""What a command would do and cost, told without MindSpore."""
