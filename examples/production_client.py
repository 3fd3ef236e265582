"""For production: time-outs, retries, bounds on time and money, errors that say what to do; the gateway fails over and limits.
`python examples/production_client.py [MODEL]`"""

import asyncio
import sys

from naru import AsyncNaru
from naru.errors import NaruError

model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"


async def main() -> None:
    async with AsyncNaru(model=model, timeout=120, max_retries=3) as client:
        talk = client.conversation(system="You answer briefly.", context_tokens=32_000, max_tokens=200)
        try:
            print((await talk.ask("안녕하세요!")).text)
            run = await client.run("12 * 34는?", tools=["calculator"], max_seconds=60, max_cost_usd="0.01")
            print(run.text if run.ok else f"ended by {run.ending}")
        except NaruError as error:
            sys.exit(f"{error.code}: {error.message}")


asyncio.run(main())
