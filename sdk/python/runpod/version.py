"""The version of this stand-in. The suffix tells it from a release of the real package."""

__version__ = "0.1.0+rpx"
