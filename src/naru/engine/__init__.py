"""Local models. So far the pure part: chat templates, and the parser of what a model writes."""
