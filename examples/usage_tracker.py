"""What this program spends, and a word when the month's budget runs low. `python examples/usage_tracker.py [MODEL]`"""

import sys

from naru import Naru
from naru.client.usage import UsageTracker

model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"
tracker = UsageTracker(monthly_budget_usd="0.000004", on_alert=lambda month: print(f"{month.share:.0%} of the budget"))
with Naru(model=model) as client:
    for outcome in client.map(["안녕하세요!", "고마워요", "안녕히 가세요"]):
        if outcome.ok:
            tracker.record(outcome)
report = tracker.report()
print(f"today: {report.requests} requests, {report.input_tokens} + {report.output_tokens} tokens, ${report.cost_usd}")
