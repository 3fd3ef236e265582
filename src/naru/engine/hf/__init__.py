"""The second engine: Transformers on torch, for what has no OpenVINO IR. Only a worker process imports its modules.

    options    what may be set              loading    a folder -> model, tokenizer, facts
    rows       the KV memory of a batch     sampling   logits -> the next token of one request
    grammar    masks on the logits          engine     the steps, without a thread
    backend    the thread: port.Backend     embedding, rerank   port.Embedder, port.Reranker

Why a loop of its own and not Transformers' continuous batching manager (5.5): that one has a single sampling configuration for
all requests, knows no masks and no alternatives' logprobs, and on a CPU its paged attention reads the whole batch's keys as one
sequence under a mask, so its work grows with the square of the batch.
"""
