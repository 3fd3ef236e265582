"""Which dialect is spoken where: on the paths that clients call, and at the endpoints of providers. Data."""

from __future__ import annotations

from collections.abc import Mapping

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bedrock import BEDROCK
from naru.protocol.clova import CLOVA
from naru.protocol.dialect import ClientSide, UpstreamSide
from naru.protocol.embeddings import EMBEDDINGS, EMBEDDINGS_CLOVA, EMBEDDINGS_GEMINI
from naru.protocol.gemini import GEMINI
from naru.protocol.media import EDITS, IMAGES, SPEECH, TRANSCRIPTION, TRANSLATION
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions import OPENAI_COMPLETIONS
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.rerank import RERANK, RERANK_CLOVA, RERANK_DASHSCOPE

#: Client path -> dialect. What is here is hot, and passes the one choke point for money.
HOT: Mapping[str, ClientSide] = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/responses": OPENAI_RESPONSES,
    "/v1/messages": ANTHROPIC_MESSAGES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/rerank": RERANK,
    "/v1/audio/transcriptions": TRANSCRIPTION,
    "/v1/audio/translations": TRANSLATION,
    "/v1/audio/speech": SPEECH,
    "/v1/images/generations": IMAGES,
    "/v1/images/edits": EDITS,
}
#: The same for paths that name the model: prefix, what follows the name, dialect.
PATTERNS: tuple[tuple[str, str, ClientSide], ...] = (
    ("/v1beta/models/", ":generateContent", GEMINI),
    ("/v1beta/models/", ":streamGenerateContent", GEMINI),
    ("/v1/models/", ":generateContent", GEMINI),
    ("/v1/models/", ":streamGenerateContent", GEMINI),
)
#: An endpoint of a provider (its name in `Provider.paths`) -> the dialect spoken there.
ENDPOINTS: Mapping[str, UpstreamSide] = {
    "chat": OPENAI_CHAT,
    "completions": OPENAI_COMPLETIONS,
    "responses": OPENAI_RESPONSES,
    "messages": ANTHROPIC_MESSAGES,
    "generate": GEMINI,
    "converse": BEDROCK,
    "clova_v3": CLOVA,
    "clova_v1": CLOVA,
    "embeddings": EMBEDDINGS,
    "embeddings_gemini": EMBEDDINGS_GEMINI,
    "embeddings_clova": EMBEDDINGS_CLOVA,
    "rerank": RERANK,
    "rerank_dashscope": RERANK_DASHSCOPE,
    "rerank_clova": RERANK_CLOVA,
    "transcription": TRANSCRIPTION,
    "translation": TRANSLATION,
    "speech": SPEECH,
    "images": IMAGES,
    "edits": EDITS,
}


#: Whose form the errors of other paths take: by prefix, else by whose client asks.
ERROR_SHAPES: tuple[tuple[str, ClientSide], ...] = (("/v1/messages", ANTHROPIC_MESSAGES), ("/v1beta/", GEMINI))
ERROR_SHAPES_OF: Mapping[str, ClientSide] = {
    "openai": OPENAI_CHAT,
    "anthropic": ANTHROPIC_MESSAGES,
    "gemini": GEMINI,
}
