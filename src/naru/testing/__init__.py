"""Parts for rehearsing failures, used by Naru's own tests and open to everyone.

`Sandbox`: an upstream without a model. `RawServer` and `Script`: an upstream that sends any bytes. `FaultProxy`: TCP
faults in front of anything. `FakeHub`: a folder of model files as the Hugging Face Hub serves it, and `naru.testing.weights`
makes such files. `FakeClock`: time that moves when told. Recordings: `naru.testing.replay` (needs PyYAML).
"""

from naru.testing.clock import FakeClock
from naru.testing.faults import FaultProxy, Faults, Link
from naru.testing.http import Exchange, RawServer, Received
from naru.testing.hub import FakeHub, HubFaults
from naru.testing.sandbox import Sandbox
from naru.testing.script import Script, scripted
from naru.testing.watch import Watch

__all__ = [
    "Exchange",
    "FakeClock",
    "FakeHub",
    "FaultProxy",
    "Faults",
    "HubFaults",
    "Link",
    "RawServer",
    "Received",
    "Sandbox",
    "Script",
    "Watch",
    "scripted",
]
