"""How much may pass: requests and tokens per minute (GCRA, pure integers) and concurrent requests with a bounded queue.

`gcra.Bucket` is the arithmetic, `meters.Meter` the state of one scope, `admission.Admission` the one door through which a request
passes all its meters or none, `headers.headers` what callers are told. Times are monotonic nanoseconds and arguments.
"""
