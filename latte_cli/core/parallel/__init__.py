"""Many workers: who this process is, starting them, watching them, and what they compute together."""
