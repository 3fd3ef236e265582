"""The chaos catalogue: every upstream and client fault that Naru has a rule for, done to a running gateway over real sockets."""
