"""Errors of the configuration package.

ConfigError                 expected: the operator must change something; exit code 2
+- UnknownKey               a key that no setting has; names the nearest right one
+- MixedNetworks            main and test networks in one configuration (CONTRACT 1)
+- UnsafeEnvironment        the process or the database is not in a state that may hold money
"""


class ConfigError(Exception):
    """Something in the configuration is wrong. The message is one line for a person.

    `hint` says what to do; it may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownKey(ConfigError):
    """A key that no setting has, or no longer has."""


class MixedNetworks(ConfigError):
    """Main and test networks in one configuration, or networks of the wrong kind for livemode."""


class UnsafeEnvironment(ConfigError):
    """`python -O`, `fsync` off, another schema version, a server that is not in UTC, and so on."""
