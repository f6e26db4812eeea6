"""The one way in which a check of a deposit proof says no."""


class CheckFailed(Exception):
    """A sentence for people: what does not hold."""
