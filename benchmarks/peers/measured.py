"""A peer in a benchmark: started if it is installed, given its turns, and what came of it."""

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from peers.live import LivePeer, PeerFailedError, Turn, probe
from peers.registry import AnySettings


@dataclass
class MeasuredPeer:
    """What is known of one peer; `failure` says why there is no measurement, or no further one."""

    name: str
    settings: AnySettings
    versions: dict[str, str] = field(default_factory=dict)
    live: LivePeer | None = None
    failure: str = ""
    turns: list[Turn] = field(default_factory=list)

    def start(self, python: str, stack: contextlib.ExitStack, warm_up_seconds: float = 0.0) -> bool:
        """Starts it, warm: its libraries have been read once before. Whether it runs; `stack` ends it.

        warm_up_seconds: of a turn that is not counted; 0: none.
        """
        try:
            found = probe(self.name, python, self.settings)
            if "missing" in found:
                self.failure = f"not installed: {found['missing']}"
                return False
            self.versions = found["versions"]
            self.live = stack.enter_context(LivePeer(self.name, python, self.settings))
            if warm_up_seconds:
                self.live.turn(warm_up_seconds)
        except (PeerFailedError, OSError) as error:
            self.failure = f"failed: {error}"
            return False
        return True

    def take_turn(self, seconds: float) -> Turn | None:
        """Measures it once; None where it has failed, now or before."""
        if self.live is None or self.failure:
            return None
        try:
            self.turns.append(self.live.turn(seconds))
        except PeerFailedError as error:
            self.failure = f"failed: {error}"
            return None
        return self.turns[-1]


def measure_round(peers: Sequence[MeasuredPeer], seconds: float) -> float:
    """A turn of each, one after the other; how many cores other processes kept busy meanwhile."""
    turns = [turn for peer in peers if (turn := peer.take_turn(seconds))]
    return statistics.mean(turn.other_cores for turn in turns) if turns else 0.0
