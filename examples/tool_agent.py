"""An agent with tools: write functions, ask, read the answer. `python examples/tool_agent.py [MODEL]`"""

import sys
from typing import Literal

from naru import Naru, tool

DEGREES = {"서울": 23, "부산": 27}


@tool
def get_current_weather(location: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict:
    """특정 도시의 현재 날씨 조회"""
    return {"location": location, "temperature": DEGREES.get(location, 20), "unit": unit}


model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"
with Naru() as client:
    run = client.run(
        "서울의 날씨와 부산의 날씨를 비교해줘", model=model, tools=[get_current_weather, "calculator"], max_turns=5
    )
for use in run.tool_calls:
    print(f"{use.name}({use.arguments}) -> {use.result}")
print(run.text)
print(f"{run.turns} turns, {run.usage.total} tokens, ${run.cost_usd}")
