"""mien changes the expression on a face in live video."""

__version__ = "0.1.0"
