"""Many prompts within the limits: paced, retried, resumed. `python examples/many_prompts.py [MODEL]`"""

import sys

from naru import Naru

PROMPTS = ["안녕하세요, 반갑습니다.", "파이썬에서 async/await란?", "오늘 뉴스 요약해줘"]
model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"
with Naru(model=model) as client:
    outcomes = client.map(PROMPTS, rpm=600, tpm=120_000, concurrency=10, max_tokens=200, progress=True)
for outcome in outcomes:
    print(f"[{outcome.index}]", outcome.text if outcome.ok else f"error: {outcome.error}")
