"""What the lab raises when it cannot do its part."""


class LabError(Exception):
    """Says what is missing on this machine, or which host failed and how, in words for the person at the keyboard."""
