"""The version of duly, said once."""

__version__ = "0.1.0"
