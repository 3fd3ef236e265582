"""Several conversations side by side, each with tools, results in order. `python examples/batch_queries.py [MODEL]`"""

import asyncio
import sys

from naru import AsyncNaru

QUERIES = ["서울 날씨 어때?", "12 * 34는?", "부산과 제주의 날씨를 비교해줘"]
model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"


async def main() -> None:
    async with AsyncNaru(model=model) as client:
        runs = [client.run(query, tools=["weather", "calculator"]) for query in QUERIES]
        for query, run in zip(QUERIES, await asyncio.gather(*runs, return_exceptions=True), strict=True):
            print(f"{query}\n  {run}")  # the answer, or what went wrong


asyncio.run(main())
