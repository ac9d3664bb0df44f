"""The file formats that hold weights, one module each."""
