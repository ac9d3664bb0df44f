"""Distributed runs: rank and size, starting and watching workers, collective operations."""
