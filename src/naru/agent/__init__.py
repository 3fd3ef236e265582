"""The tool loop, tools, and MCP. Knows nothing of the server; the client and the gateway drive it."""
