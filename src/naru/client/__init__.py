"""The Python SDK: Naru and AsyncNaru, with the official OpenAI client inside."""
