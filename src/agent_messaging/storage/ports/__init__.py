"""The storage seam: what a backend must be able to do, one method per verb of the domain, each one atomic state change.

Every method holds these, so none repeats them:

* After it returns, its change is committed and synced. After one of our errors other than `OutcomeUnknownError` nothing
  changed. After `OutcomeUnknownError`, a cancellation or a crash it happened wholly or not at all; the method says
  how to repeat it safely.
* Ids are canonical lower-case UUID text, made by the caller (UUIDv7). External ids never reach `deliveries`.
* `now` is the instant the store is to believe; None means the store's own clock. Durations are seconds.
* Driver errors leave it as the errors of `exceptions.DatabaseError`, never raw.
* A list argument is one statement or a constant number of them, never one per item, and is bounded by the caller.

The life of a delivery, one guarded change per arrow:

    queued ──claim: token+1, attempt+1, owner──▶ claimed ──settle, token newest──▶ done | dead
    claimed ──settle as retry(delay) or give back──▶ queued
    claimed ──release: owner dead, or past the claim's hard end──▶ queued | dead
    queued ──expire | withdraw──▶ expired | withdrawn
    dead ──redrive: attempt 0, token kept──▶ queued

Of conversations, what an agent's own code reads no handler need have (see `sessions`):

    queued ──read or taken──▶ done
    done ──returned by the call that took it from the queue──▶ queued
    done ──rejected by the call that took it──▶ dead

Order: a *lane* is (recipient, kind, sender). `claim` takes from an ordered lane only its oldest due delivery, and only
while no delivery of the lane is claimed. Between lanes of a recipient it goes round robin, so that no sender starves
another.

Crashes: a delivery whose owner died is *suspect* until it is settled. Of one recipient's suspects at most one is
claimed at a time, so that a message that kills its process is found by itself. When an owner dies while it had
suspects claimed, they alone are blamed: what else it had claimed returns to the queue uncounted and unsuspected.
"""

# ruff: noqa: F403 - each name is given once, where it is defined

from .archive import *
from .base import *
from .coordination import *
from .deliveries import *
from .directory import *
from .forwarding import *
from .meetings import *
from .messages import *
from .parts import *
from .processes import *
from .queue import *
from .retention import *
from .schedules import *
from .search import *
from .sessions import *
from .store import *
from .tasks import *
from .topics import *
from .workers import *
