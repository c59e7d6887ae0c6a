"""Assigns items to the old or the new run by a salted hash of their duplicate group."""

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answered:
    """What both runs said of an item that came in during a rollout; its event keeps it.

    Attributes:
        rollout: Its number.
        run: Name of the new run.
        version: Of the new run.
        stage: That the item came in at.
        arm: Of its duplicate group.
        asked: Whether the new run was asked.
        old: The tag that the old run publishes; None where it asks a person.
        new: The same of the new one; None also where it was not asked, or has not answered.
        trouble: Why the new run has not answered: "failed" or "slow"; else "".
        judge: Whether a person is to look at a disagreement.
    """

    rollout: int
    run: str
    version: str
    stage: int
    arm: Arm
    asked: bool
    old: str | None
    new: str | None = None
    trouble: Literal["", "failed", "slow"] = ""
    judge: bool = False

    @property
    def disagrees(self) -> bool:
        """Whether the runs decide differently."""
        return self.asked and not self.trouble and self.old != self.new

    @property
    def by_new(self) -> bool:
        """Whether the new run's decision is in force."""
        return self.arm == "new" and self.asked and not self.trouble
