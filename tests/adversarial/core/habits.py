"""What a facilitator makes of an authorization that was used before, as far as the suite has a say in it."""

from enum import Enum
from typing import TYPE_CHECKING

from core.attack import Need

if TYPE_CHECKING:
    from core.payments import Wallet


class Habit(Enum):
    ITS_OWN = "its own facilitator"
    """Whatever the server under test uses; strict, where it is the suite's."""
    REPEATING = "one that repeats its answers"
    """Says of a payment that was settled what it said the first time, as some do, and some chains' nodes."""
    BLIND = "one that does not see use"
    """Says yes every time, naming another transaction, as before tokens that do not revert; takes any form of signature."""

    @property
    def needs(self) -> tuple[Need, ...]:
        return () if self is Habit.ITS_OWN else (Need.FACILITATOR,)

    def of(self, wallet: "Wallet") -> None:
        """The facilitator has this habit towards a payer."""
        if self is not Habit.ITS_OWN:
            wallet.scene.facilitator.take_on(wallet.payer.address, self)


HABITS = list(Habit)
