"""The official SDKs as drivers: each turns an Ask into its own call and what comes back into a Seen."""

from __future__ import annotations

import base64
import json
from typing import Any, Protocol

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from tests.conformance.asks import PNG, WEATHER, Ask, Call, Refused, Seen
from tests.harness import Gateway


class Client(Protocol):
    async def ask(self, gateway: Gateway, model: str, ask: Ask) -> Seen: ...


class ChatClient:
    """`openai`, chat completions."""

    async def ask(self, gateway: Gateway, model: str, ask: Ask) -> Seen:
        try:
            return await self._ask(gateway.openai, self._body(model, ask), ask.is_stream)
        except openai.APIStatusError as error:
            raise Refused(error.status_code, str(error)) from None
        except openai.APIError as error:
            raise Refused(None, str(error)) from None

    def _body(self, model: str, ask: Ask) -> dict[str, Any]:
        content: Any = ask.text
        if ask.has_image:
            content = [
                {"type": "text", "text": ask.text},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            ]
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
        if ask.has_tool:
            function = {"name": "get_current_weather", "description": "Weather now.", "parameters": WEATHER}
            body["tools"] = [{"type": "function", "function": function}]
        if ask.tool_results:
            calls = [
                {
                    "id": f"call_{n}",
                    "type": "function",
                    "function": {"name": "get_current_weather", "arguments": arguments},
                }
                for n, arguments in enumerate(ask.tool_results)
            ]
            body["messages"].append({"role": "assistant", "tool_calls": calls})
            body["messages"] += [
                {"role": "tool", "tool_call_id": f"call_{n}", "content": result}
                for n, result in enumerate(ask.tool_results.values())
            ]
        if ask.schema:
            schema = {"name": "answer", "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if ask.thinks:
            body["reasoning_effort"] = "low"
        body |= {"stop": ask.stop} if ask.stop else {}
        body |= {"n": ask.n} if ask.n else {}
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if ask.is_stream else {})

    async def _ask(self, client: openai.AsyncOpenAI, body: dict[str, Any], is_stream: bool) -> Seen:
        answer: Any = await client.chat.completions.create(**body)
        seen = Seen()
        if not is_stream:
            seen.texts = [choice.message.content or "" for choice in answer.choices]
            message = answer.choices[0].message
            seen.reasoning = (message.model_extra or {}).get("reasoning_content") or ""
            seen.calls = [Call(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []]
            seen.finish = answer.choices[0].finish_reason
            seen.input_tokens, seen.output_tokens = answer.usage.prompt_tokens, answer.usage.completion_tokens
            return seen
        calls: dict[int, list[str]] = {}
        texts: dict[int, str] = {}
        async for chunk in answer:
            seen.pieces += 1
            if chunk.usage:
                seen.input_tokens, seen.output_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                seen.reasoning += (choice.delta.model_extra or {}).get("reasoning_content") or ""
                seen.finish = choice.finish_reason or seen.finish
                for call in choice.delta.tool_calls or []:
                    parts = calls.setdefault(call.index, ["", "", ""])
                    parts[0] += call.id or ""
                    parts[1] += call.function.name or ""
                    parts[2] += call.function.arguments or ""
        seen.texts = [texts[index] for index in sorted(texts)]
        seen.calls = [Call(*calls[index]) for index in sorted(calls)]
        return seen


class ResponsesClient:
    """`openai`, Responses; streams through the SDK's own accumulator."""

    async def ask(self, gateway: Gateway, model: str, ask: Ask) -> Seen:
        try:
            return await self._ask(gateway.openai, self._body(model, ask), ask.is_stream)
        except openai.APIStatusError as error:
            raise Refused(error.status_code, str(error)) from None
        except openai.APIError as error:
            raise Refused(None, str(error)) from None

    def _body(self, model: str, ask: Ask) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": ask.text}]
        if ask.has_image:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"})
        items: list[dict[str, Any]] = [{"role": "user", "content": content}]
        body: dict[str, Any] = {"model": model, "input": items}
        if ask.has_tool:
            tool = {"type": "function", "name": "get_current_weather", "description": "Weather now.", "strict": True}
            body["tools"] = [{**tool, "parameters": WEATHER}]
        results = ask.tool_results or {}
        items += [
            {"type": "function_call", "call_id": f"call_{n}", "name": "get_current_weather", "arguments": arguments}
            for n, arguments in enumerate(results)
        ]
        items += [
            {"type": "function_call_output", "call_id": f"call_{n}", "output": result}
            for n, result in enumerate(results.values())
        ]
        if ask.schema:
            body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": True}}
        if ask.thinks:
            body["reasoning"] = {"effort": "low", "summary": "auto"}
        if ask.stop or ask.n:
            raise LookupError("the Responses API has no such parameter")
        return body

    async def _ask(self, client: openai.AsyncOpenAI, body: dict[str, Any], is_stream: bool) -> Seen:
        seen = Seen()
        if is_stream:
            async with client.responses.stream(**body) as stream:
                async for event in stream:
                    seen.pieces += 1
                    if event.type in ("error", "response.failed"):
                        raise Refused(None, str(event))
                answer: Any = await stream.get_final_response()
        else:
            answer = await client.responses.create(**body)
        seen.texts = [answer.output_text]
        for item in answer.output:
            if item.type == "function_call":
                seen.calls.append(Call(item.call_id, item.name, item.arguments))
            elif item.type == "reasoning":
                seen.reasoning += "".join(part.text for part in [*(item.summary or []), *(item.content or [])])
        reason = answer.incomplete_details.reason if answer.incomplete_details else None
        seen.finish = "length" if reason == "max_output_tokens" else "tool_calls" if seen.calls else "stop"
        seen.input_tokens, seen.output_tokens = answer.usage.input_tokens, answer.usage.output_tokens
        return seen


class MessagesClient:
    """`anthropic`, Messages; streams through the SDK's own accumulator."""

    async def ask(self, gateway: Gateway, model: str, ask: Ask) -> Seen:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            try:
                return await self._ask(client, self._body(model, ask), ask.is_stream)
            except anthropic.APIStatusError as error:
                raise Refused(error.status_code, str(error)) from None
            except anthropic.APIError as error:
                raise Refused(None, str(error)) from None

    def _body(self, model: str, ask: Ask) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": ask.text}]
        if ask.has_image:
            content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}})
        body: dict[str, Any] = {"model": model, "max_tokens": 4096, "messages": [{"role": "user", "content": content}]}
        if ask.has_tool:
            body["tools"] = [{"name": "get_current_weather", "description": "Weather now.", "input_schema": WEATHER}]
        if ask.tool_results:
            uses = [
                {"type": "tool_use", "id": f"toolu_{n}", "name": "get_current_weather", "input": json.loads(arguments)}
                for n, arguments in enumerate(ask.tool_results)
            ]
            results = [
                {"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": result}
                for n, result in enumerate(ask.tool_results.values())
            ]
            body["messages"] += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
        if ask.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
        if ask.thinks:
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if ask.n:
            raise LookupError("the Messages API has no such parameter")
        return body | ({"stop_sequences": [ask.stop]} if ask.stop else {})

    async def _ask(self, client: anthropic.AsyncAnthropic, body: dict[str, Any], is_stream: bool) -> Seen:
        seen = Seen()
        if is_stream:
            async with client.messages.stream(**body) as stream:
                async for _ in stream:
                    seen.pieces += 1
                answer: Any = await stream.get_final_message()
        else:
            answer = await client.messages.create(**body)
        text = ""
        for block in answer.content:
            if block.type == "text":
                text += block.text
            elif block.type == "thinking":
                seen.reasoning += block.thinking
            elif block.type == "tool_use":
                seen.calls.append(Call(block.id, block.name, json.dumps(block.input, ensure_ascii=False)))
        seen.texts = [text]
        finishes = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
        seen.finish = finishes.get(answer.stop_reason, answer.stop_reason)
        usage = answer.usage
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        seen.input_tokens, seen.output_tokens = usage.input_tokens + cached, usage.output_tokens
        return seen


class GeminiClient:
    """`google-genai`."""

    async def ask(self, gateway: Gateway, model: str, ask: Ask) -> Seen:
        options = types.HttpOptions(base_url=gateway.url, retry_options=types.HttpRetryOptions(attempts=1))
        client = genai.Client(api_key=gateway.key, http_options=options)
        try:
            return await self._ask(client, model, ask)
        except genai_errors.APIError as error:
            raise Refused(error.code, str(error)) from None
        finally:
            await client.aio.aclose()
            client.close()

    def _contents(self, ask: Ask) -> list[types.Content]:
        parts = [types.Part(text=ask.text)]
        if ask.has_image:
            parts.append(types.Part(inline_data=types.Blob(data=base64.b64decode(PNG), mime_type="image/png")))
        contents = [types.Content(role="user", parts=parts)]
        if ask.tool_results:
            calls, results = [], []
            for arguments, result in ask.tool_results.items():
                name = "get_current_weather"
                calls.append(types.Part(function_call=types.FunctionCall(name=name, args=json.loads(arguments))))
                response = types.FunctionResponse(name=name, response={"result": result})
                results.append(types.Part(function_response=response))
            contents += [types.Content(role="model", parts=calls), types.Content(role="user", parts=results)]
        return contents

    def _config(self, ask: Ask) -> types.GenerateContentConfig:
        config = types.GenerateContentConfig(automatic_function_calling={"disable": True})
        if ask.has_tool:
            declaration = types.FunctionDeclaration(
                name="get_current_weather", description="Weather now.", parameters_json_schema=WEATHER
            )
            config.tools = [types.Tool(function_declarations=[declaration])]
        if ask.schema:
            config.response_mime_type, config.response_json_schema = "application/json", ask.schema
        if ask.thinks:
            config.thinking_config = types.ThinkingConfig(include_thoughts=True, thinking_budget=1024)
        config.stop_sequences = [ask.stop] if ask.stop else None
        config.candidate_count = ask.n
        return config

    async def _ask(self, client: genai.Client, model: str, ask: Ask) -> Seen:
        seen = Seen()
        contents: Any = self._contents(ask)
        arguments: dict[str, Any] = {"model": model, "contents": contents, "config": self._config(ask)}
        answers = []
        if ask.is_stream:
            async for piece in await client.aio.models.generate_content_stream(**arguments):
                seen.pieces += 1
                answers.append(piece)
        else:
            answers.append(await client.aio.models.generate_content(**arguments))
        texts: dict[int, str] = {}
        for answer in answers:
            if answer.usage_metadata and answer.usage_metadata.prompt_token_count is not None:
                usage = answer.usage_metadata
                seen.input_tokens = usage.prompt_token_count
                seen.output_tokens = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            for candidate in answer.candidates or []:
                self._add(seen, texts, candidate)
        seen.texts = [texts[index] for index in sorted(texts)]
        if seen.calls and seen.finish == "stop":
            seen.finish = "tool_calls"
        return seen

    def _add(self, seen: Seen, texts: dict[int, str], candidate: types.Candidate) -> None:
        index = candidate.index or 0
        texts.setdefault(index, "")
        for part in (candidate.content.parts if candidate.content else None) or []:
            if part.function_call:
                call = part.function_call
                seen.calls.append(Call(call.id or "", call.name or "", json.dumps(call.args, ensure_ascii=False)))
            elif part.text and part.thought:
                seen.reasoning += part.text
            elif part.text:
                texts[index] += part.text
        if candidate.finish_reason:
            reason = candidate.finish_reason.name
            seen.finish = {"STOP": "stop", "MAX_TOKENS": "length"}.get(reason, reason)


CLIENTS: dict[str, Client] = {
    "openai_chat": ChatClient(),
    "openai_responses": ResponsesClient(),
    "anthropic_messages": MessagesClient(),
    "gemini": GeminiClient(),
}
