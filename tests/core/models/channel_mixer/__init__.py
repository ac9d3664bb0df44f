"""A tiny architecture for test_third_architecture.py, which copies this folder into a copy of the package."""
