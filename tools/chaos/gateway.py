"""The gateway under test: `naru serve` as a process of its own, and what its operator can see of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from tools.chaos.client import Client

#: The home's variables decide where things lie; whatever else this shell has set must not reach the gateway.
KEPT = ("PATH", "PYTHONPATH", "LANG", "HOME", "TMPDIR", "COVERAGE_PROCESS_START")
GAUGES = ("naru_in_flight_requests", "naru_open_streams", "naru_open_permits")
START_S = 30.0


class Gateway:
    """One process. `client` has a caller's key, `admin` an administrator's."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.config = config
        self.client: Client
        self.admin_key = ""
        self._process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        return self.client.port

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    async def start(self) -> None:
        (self.folder / "naru.toml").write_text(self.config)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        with (self.folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "naru", "serve", "--port", "0", "--config", str(self.folder / "naru.toml"),
                env={**environment, "NARU_HOME": str(self.folder / "home")}, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        banner = await self._banner()
        port, caller, admin = (
            re.search(pattern, banner) for pattern in (r"listens on \S+:(\d+)", r"\b(nk-\S+)", r"\b(nka-\S+)")
        )
        if port is None or caller is None or admin is None:
            raise RuntimeError(f"the gateway did not start:\n{banner}{self.log[-3000:]}")
        self.client = Client(int(port[1]), caller[1])
        self.admin_key = admin[1]

    async def _banner(self) -> str:
        assert self._process.stdout is not None
        banner = ""
        async with asyncio.timeout(START_S):
            while "OpenAI clients" not in banner:
                line = await self._process.stdout.readline()
                if not line:
                    break
                banner += line.decode()
        return banner

    async def stop(self) -> int:
        """SIGINT, and SIGKILL when that is not heeded. The exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
        code = await self._process.wait()
        assert self._process.stdout is not None
        await self._process.stdout.read()
        return code

    async def admin(self, path: str) -> Any:
        return (await self.client.get(path, self.admin_key)).json

    async def entries(self, model: str, at_least: int = 1, within_s: float = 4.0) -> list[dict[str, Any]]:
        """The ledger's entries for a model, newest first; waits for so many, but not for ever."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            found = (await self.admin(f"/admin/requests?model={model}&limit=500"))["data"]
            if len(found) >= at_least or asyncio.get_running_loop().time() > deadline:
                return list(found)
            await asyncio.sleep(0.05)

    async def gauges(self) -> dict[str, float]:
        text = (await self.client.get("/metrics")).body.decode()
        pairs = [line.split() for line in text.splitlines() if line.startswith(GAUGES)]
        return {name: float(value) for name, value in pairs}

    async def leftovers(self, within_s: float = 6.0) -> list[str]:
        """What is still under way, after a while in which it may end; and what the ledger says is wrong with itself."""
        busy: list[str] = []
        deadline = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline:
            busy = [f"{name} {value:g}" for name, value in (await self.gauges()).items() if value]
            if not busy:
                break
            await asyncio.sleep(0.1)
        return busy + [str(each) for each in (await self.admin("/admin/ledger/verify"))["findings"]]

    def sockets(self) -> int:
        found = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found += str(descriptor.readlink()).startswith("socket:")
        return found

    def memory_mb(self) -> float:
        return self._status("VmRSS") / 1024

    def peak_mb(self) -> float:
        """The most memory since `forget_peak`."""
        return self._status("VmHWM") / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc(5): 5 sets the peak to what is in use now

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))
