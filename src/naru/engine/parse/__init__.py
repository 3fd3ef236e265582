"""What a model writes, taken apart while it comes: reasoning, content and tool calls (local_serving.md section 2)."""
