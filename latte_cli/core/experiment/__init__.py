"""The experiment file as commands read it: loaded, and checked by every rule."""
