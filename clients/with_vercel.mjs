// The Vercel AI SDK; the same steps as in common.py.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, streamText } from "ai";
import { setTimeout as pause } from "node:timers/promises";

const url = `${process.env.NEARHIT_URL}/v1`;
const apiKey = process.env.NEARHIT_KEY;
const providers = {
  "openai-compatible": createOpenAICompatible({ name: "nearhit", baseURL: url, apiKey }),
  anthropic: createAnthropic({ baseURL: url, apiKey }),
  google: createGoogleGenerativeAI({ baseURL: `${process.env.NEARHIT_URL}/v1beta`, apiKey }),
};
const questions = [
  ["What is the capital of France?", "Which city is the capital of France?"],
  ["How do I undo the last commit in git?", "How can I undo my last git commit?"],
];

function tell(how, step, ok, said) {
  console.log(`${how}\t${step}\t${ok ? "ok" : JSON.stringify(said.slice(0, 80))}`);
}

for (const [how, provider] of Object.entries(providers)) {
  const asking = (model, prompt) => ({ model: provider(model), prompt, maxOutputTokens: 500, maxRetries: 0 });
  const ask = async (model, prompt) => (await generateText(asking(model, prompt))).text;
  const stream = async (model, prompt) => {
    let said = "";
    for await (const piece of streamText(asking(model, prompt)).textStream) said += piece;
    return said;
  };
  for (const [at, prefix, call, other] of [[0, "", ask, stream], [1, "stream ", stream, ask]]) {
    const [question, paraphrase] = questions[at];
    const first = await call("demo-chat", question);
    tell(how, `${prefix}miss`, first.toLowerCase().includes("simulated"), first);
    await pause(300);
    for (const [step, again, text] of [
      ["exact", call, question], ["paraphrase", call, paraphrase], ["other form", other, question],
    ]) {
      const said = await again("demo-chat", text);
      tell(how, prefix + step, said === first, said);
    }
  }
  try {
    tell(how, "error", false, await ask("unknown-model", "What is the capital of Italy?"));
  } catch (error) {
    tell(how, "error", APICallError.isInstance(error) && error.statusCode === 404, String(error));
  }
}
