"""The same question twice: the second answer is the gateway's cache's, and costs nothing. The gateway needs
`[cache] enabled = true`. `python examples/cached_completion.py [MODEL]`"""

import sys

from naru import Naru

model = sys.argv[1] if len(sys.argv) > 1 else "naru-demo"
asked = {"model": model, "messages": [{"role": "user", "content": "안녕하세요!"}], "temperature": 0, "max_tokens": 200}
with Naru() as client:
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(**asked)
        told = raw.headers["x-naru-cache"], raw.headers["x-naru-cost-usd"]
        print("cache: {}, ${}:".format(*told), raw.parse().choices[0].message.content)
