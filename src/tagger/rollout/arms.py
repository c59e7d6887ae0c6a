"""Assigns items to the old or the new run by a salted hash of their duplicate group."""

import hashlib
from typing import Literal

Arm = Literal["old", "new"]


def position_of(salt: str, group: int) -> float:
    """Return where a group lies in [0, 1): uniform, and the same for ever under the same salt."""
    digest = hashlib.blake2b(f"{salt} {group}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # what a float holds exactly, below 1


def arm_of(salt: str, group: int, share: float) -> Arm:
    """Return the arm of a group while the new run answers this share of them.

    The new run's groups are those in [0, share). A ramp moves the end of that range up alone, so
    no group that the new run answered goes back to the old one.
    """
    return "new" if position_of(salt, group) < share else "old"
