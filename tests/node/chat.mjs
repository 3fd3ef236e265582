// One conversation through the gateway with the official JavaScript client: streamed text, then streamed tool calls.
// Prints one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY, maxRetries: 0 });

async function streamed(body) {
  const seen = { text: "", calls: [], finish: null, usage: null, chunks: 0 };
  const stream = await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    seen.chunks += 1;
    seen.usage = chunk.usage ?? seen.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    seen.text += choice.delta.content ?? "";
    seen.finish = choice.finish_reason ?? seen.finish;
    for (const call of choice.delta.tool_calls ?? []) {
      seen.calls[call.index] ??= { name: "", arguments: "" };
      seen.calls[call.index].name += call.function?.name ?? "";
      seen.calls[call.index].arguments += call.function?.arguments ?? "";
    }
  }
  return seen;
}

const weather = {
  type: "function",
  function: {
    name: "get_current_weather",
    description: "Current weather of a city.",
    parameters: { type: "object", properties: { location: { type: "string" } }, required: ["location"] },
  },
};
const question = [{ role: "user", content: "서울의 날씨와 부산의 날씨를 비교해줘" }];

const text = await streamed({ model: "sandbox/echo", messages: question });
const calls = await streamed({ model: "sandbox/tools", messages: question, tools: [weather] });
let error = null;
try {
  await client.chat.completions.create({ model: "no-such-model", messages: question });
} catch (caught) {
  error = { status: caught.status, code: caught.code, type: caught.constructor.name };
}
console.log(JSON.stringify({ text, calls, error }));
