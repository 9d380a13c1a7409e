"""Who this process is to the fleet."""

from __future__ import annotations

import itertools
import os
import socket

from breaker._fork import in_every_child
from breaker._text import cleaned

# Every replica gets it with each message, and a driver that cannot send it makes Redis look absent.
_MOST_CHARACTERS = 200


class Replica:
    """One replica: its name, and ids for its permits.

    A forked child is another replica, though its parent made the breaker. With the ids of its parent, failures in both
    would count as one, and both could probe at once.

    Args:
        given_id: Its name, in children as well; by default host name and process id.

    Attributes:
        id: Its name.
    """

    def __init__(self, given_id: str | None = None) -> None:
        self._given_id = given_id
        self._begin()
        in_every_child(self, Replica._begin)

    def _begin(self) -> None:
        self.id = cleaned(self._given_id or f"{socket.gethostname()}-{os.getpid()}", _MOST_CHARACTERS)
        # A random beginning keeps the permits of two processes apart, a counter those of one process.
        self._permit_ids = map(f"{os.urandom(6).hex()}-{{}}".format, itertools.count(1))

    def permit_id(self) -> str:
        """Make an id that no permit of the fleet has yet."""
        return next(self._permit_ids)
