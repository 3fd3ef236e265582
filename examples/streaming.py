"""An answer as it is written, tool calls between. `python examples/streaming.py [MODEL]`"""

import sys

from naru import Naru

model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"
with Naru() as client:
    for event in client.stream("서울의 날씨와 부산의 날씨를 비교해줘", model=model, tools=["weather"]):
        match event.type:
            case "reasoning" | "content":
                print(event.text, end="", flush=True)
            case "tool_start":
                print(f"[{event.name} …]")
            case "tool_complete":
                print(f"[{event.name}({event.arguments})]")
            case "tool_result":
                print(f"[= {event.text}]")
            case "done":
                print(f"\n[{event.run.turns} turns, ${event.run.cost_usd}]")
