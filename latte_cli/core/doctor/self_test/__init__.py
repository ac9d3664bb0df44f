"""Compute on a device what is known from elsewhere, and compare."""
