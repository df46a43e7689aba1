"""The version, alone in a file that nothing else has to import."""

__version__ = "0.1.0"
