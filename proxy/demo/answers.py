"""What the demo upstream says: checks of the question, the answer, and its shape in each dialect."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

Body = dict[str, Any]

FINGERPRINT = "fp_nearhit_demo"
EMBEDDING_DIMENSIONS = 256

SENTENCES = (
    "The short version fits in one line, and the rest is detail.",
    "It depends on what is given and on what may still change.",
    "Start from the smallest case and check it by hand.",
    "Two of the usual ways lead to the same place.",
    "Write the steps down before the first one is taken.",
    "Most trouble here comes from a wrong unit.",
    "A second look at the input is cheaper than a second run.",
    "Keep what works and change one thing at a time.",
    "The edge cases are the empty one and the very large one.",
    "When in doubt, measure.",
    "There is a simpler form once the names are right.",
    "That is all there is to it.",
)


class Refusal(Exception):
    """An error answer; each dialect writes it in its own shape."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"} if self.status in (429, 503) else {}


# -------------------------------------------------------------------------------------------------- questions


NUMBER, WHOLE = (int, float), (int,)
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "stream": (bool,),
    "stream_options": (dict,),
    "n": WHOLE,
    "dimensions": WHOLE,
    "max_tokens": WHOLE,
    "max_completion_tokens": WHOLE,
    "max_output_tokens": WHOLE,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "tools": (list,),
    "response_format": (dict,),
}
LARGEST = {"n": 128, "dimensions": 4096}


def check_fields(body: Any) -> None:
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object.")
    if "model" not in body:
        raise Refusal(400, "You must provide a model parameter.", param="model")
    for name, types in FIELD_TYPES.items():
        value = body.get(name)
        if value is None and name != "model":
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise Refusal(400, f"Invalid type for '{name}'.", param=name, code="invalid_type")
    for name in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "dimensions"):
        if body.get(name) is not None and not 1 <= body[name] <= LARGEST.get(name, 1_000_000):
            raise Refusal(400, f"'{name}' is out of range.", param=name, code="invalid_value")
    check_model(body["model"])


def check_model(name: str) -> None:
    if name == "unknown-model":
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise Refusal(404, message, param="model", code="model_not_found")


def question_in_messages(body: Body) -> str:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refusal(400, "'messages' must be an array.", param="messages", code="invalid_type")
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise Refusal(400, message, param="messages", code="empty_array")
    for index, message in enumerate(messages):
        check_message(message, f"messages[{index}]")
    asked = [message for message in messages if message["role"] == "user"] or messages
    return text_of(asked[-1].get("content"))


def check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refusal(400, f"'{where}' must be an object with a role.", param=where, code="invalid_type")
    if not isinstance(message.get("content"), str | list | None):
        param = f"{where}.content"
        raise Refusal(400, f"'{param}' must be a string or an array.", param=param, code="invalid_type")


def text_of(content: Any) -> str:
    """The text of a message's content, whatever else it carries."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)


def question_for_claude(body: Body) -> str:
    if body.get("max_tokens") is None:
        raise Refusal(400, "max_tokens: Field required", param="max_tokens")
    return question_in_messages(body)


def question_in_prompt(body: Body) -> str:
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise Refusal(400, "'prompt' must be a string or an array.", param="prompt", code="invalid_type")
    return prompt if isinstance(prompt, str) else str(prompt[-1])


def question_in_input(body: Body) -> str:
    value = body.get("input")
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list) or not value:
        raise Refusal(400, "'input' must be a string or an array.", param="input", code="invalid_type")
    messages = [item for item in value if isinstance(item, dict) and "role" in item]
    return question_in_messages({"messages": messages}) if messages else ""


def embedded_texts(body: Body) -> str:
    value = body.get("input")
    if not isinstance(value, str | list) or not value:
        raise Refusal(400, "'input' must be a string or an array.", param="input", code="invalid_type")
    return value if isinstance(value, str) else " ".join(map(str, value))


# ---------------------------------------------------------------------------------------------------- replies


@dataclass(frozen=True, slots=True)
class Choice:
    pieces: list[str]
    """Tokens of the text, or of the arguments of the tool call."""
    finish: str
    """In OpenAI's words: stop, length or tool_calls."""
    tool: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Reply:
    number: int
    created: int
    body: Body
    prompt_tokens: int
    choices: list[Choice]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def completion_tokens(self) -> int:
        return sum(len(choice.pieces) for choice in self.choices)


def reply_to(body: Body, question: str, number: int, created: int) -> Reply:
    try:
        choices = [choice_for(body, question, number, index) for index in range(body.get("n") or 1)]
    except (AttributeError, KeyError, TypeError):
        raise Refusal(400, "'tools', 'tool_choice' or 'response_format' has an unexpected shape.") from None
    return Reply(number, created, body, count_tokens(question), choices)


def choice_for(body: Body, question: str, number: int, index: int) -> Choice:
    tool = wanted_tool(body)
    if tool is not None:
        arguments = json.dumps(example(tool["parameters"], question))
        return Choice(pieces_of(arguments), "stop" if names_tool(body) else "tool_calls", tool["name"])
    pieces = pieces_of(answer_text(body, question, number, index))
    named = first_given(body, "max_completion_tokens", "max_output_tokens", "max_tokens")
    limit = (body.get("options") or {}).get("num_predict") if named is None else named
    if limit is not None and limit < len(pieces):
        return Choice(pieces[:limit], "length")
    return Choice(pieces, "stop")


def answer_text(body: Body, question: str, number: int, index: int) -> str:
    chosen = random.Random(question).sample(SENTENCES, 4)
    variant = f", choice {index + 1}" if index else ""
    text = (
        f'Simulated answer no. {number}{variant}, from no model. You asked: "{question[:300]}". '
        + " ".join(chosen)
    )
    wanted = wanted_format(body)
    if wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema", wanted).get("schema", {})
        return json.dumps(example(schema, text), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return json.dumps({"simulated": True, "answer": text}, ensure_ascii=False)
    return text


def wanted_format(body: Body) -> Body:
    holders = (body.get("text") or {}, body.get("output_config") or {})
    given = [body.get("response_format"), *(holder.get("format") for holder in holders)]
    return next((each for each in given if each), {})


def wanted_tool(body: Body) -> Body | None:
    """The function that must be called: the one `tool_choice` names, the first one when any is required."""
    functions = [function for tool in body.get("tools") or [] if (function := function_of(tool))]
    named = names_tool(body)
    if named:
        return next((function for function in functions if function["name"] == named), None)
    choice = body.get("tool_choice")
    required = choice == "required" or (isinstance(choice, dict) and choice.get("type") == "any")
    return functions[0] if functions and required else None


def function_of(tool: Body) -> Body | None:
    """Name and parameters, wherever the dialect has them."""
    if "function" in tool:
        return {"name": tool["function"]["name"], "parameters": tool["function"].get("parameters") or {}}
    if "input_schema" in tool:
        return {"name": tool["name"], "parameters": tool["input_schema"]}
    if tool.get("type") == "function":
        return {"name": tool["name"], "parameters": tool.get("parameters") or {}}
    return None


def names_tool(body: Body) -> str | None:
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    name: str | None = choice.get("name") or choice.get("function", {}).get("name")
    return name


def example(schema: Body, text: str) -> Any:
    """A value that fits a JSON schema of the common kind; `text` wherever a string may be anything."""
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object" | None:
            return {name: example(part, text) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [example(schema.get("items", {}), text)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text


def pieces_of(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text)


def count_tokens(text: str) -> int:
    return len(text.split())


def first_given(body: Body, *names: str) -> Any:
    return next((body[name] for name in names if body.get(name) is not None), None)


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def data_event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def named_event(value: Body) -> bytes:
    return f"event: {value['type']}\n".encode() + data_event(value)


# ------------------------------------------------------------------------------------------- chat completions


def chat_document(reply: Reply) -> Body:
    return chat_head(reply, "chat.completion") | {
        "choices": [
            {
                "index": index,
                "message": chat_message(reply, choice),
                "logprobs": None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(reply.choices)
        ],
        "usage": chat_usage(reply),
    }


def chat_head(reply: Reply, kind: str) -> Body:
    return {
        "id": f"chatcmpl-demo-{reply.number}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "system_fingerprint": FINGERPRINT,
    }


def chat_message(reply: Reply, choice: Choice) -> Body:
    message: Body = {"role": "assistant", "content": None if choice.tool else choice.text, "refusal": None}
    if choice.tool:
        function = {"name": choice.tool, "arguments": choice.text}
        message["tool_calls"] = [
            {"id": f"call_demo_{reply.number}", "type": "function", "function": function}
        ]
    return message


def chat_usage(reply: Reply) -> Body:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def chat_events(reply: Reply) -> Iterator[bytes]:
    with_usage = bool((reply.body.get("stream_options") or {}).get("include_usage"))
    head = chat_head(reply, "chat.completion.chunk") | ({"usage": None} if with_usage else {})
    for index, delta, finish in chat_deltas(reply):
        yield data_event(
            head | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        )
    if with_usage:
        yield data_event(head | {"choices": [], "usage": chat_usage(reply)})
    yield b"data: [DONE]\n\n"


def chat_deltas(reply: Reply) -> Iterator[tuple[int, Body, str | None]]:
    """(choice, delta, finish reason) with the choices taking turns."""
    for index, choice in enumerate(reply.choices):
        yield index, first_delta(reply, choice), None
    for position in range(max(len(choice.pieces) for choice in reply.choices)):
        for index, choice in enumerate(reply.choices):
            if position < len(choice.pieces):
                yield index, next_delta(choice, choice.pieces[position]), None
    for index, choice in enumerate(reply.choices):
        yield index, {}, choice.finish


def first_delta(reply: Reply, choice: Choice) -> Body:
    if choice.tool is None:
        return {"role": "assistant", "content": "", "refusal": None}
    function = {"name": choice.tool, "arguments": ""}
    call = {"index": 0, "id": f"call_demo_{reply.number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}


def next_delta(choice: Choice, piece: str) -> Body:
    if choice.tool is None:
        return {"content": piece}
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


# ------------------------------------------------------------------------------------------- text completions


def completion_document(reply: Reply) -> Body:
    choices = [completion_choice(i, choice.text, choice.finish) for i, choice in enumerate(reply.choices)]
    return completion_head(reply) | {"choices": choices, "usage": chat_usage(reply)}


def completion_head(reply: Reply) -> Body:
    return chat_head(reply, "text_completion") | {"id": f"cmpl-demo-{reply.number}"}


def completion_choice(index: int, text: str, finish: str | None) -> Body:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def completion_events(reply: Reply) -> Iterator[bytes]:
    with_usage = bool((reply.body.get("stream_options") or {}).get("include_usage"))
    head = completion_head(reply) | ({"usage": None} if with_usage else {})
    for index, choice in enumerate(reply.choices):
        for piece in choice.pieces:
            yield data_event(head | {"choices": [completion_choice(index, piece, None)]})
        yield data_event(head | {"choices": [completion_choice(index, "", choice.finish)]})
    if with_usage:
        yield data_event(head | {"choices": [], "usage": chat_usage(reply)})
    yield b"data: [DONE]\n\n"


# ------------------------------------------------------------------------------------------------- embeddings


def embedding_document(reply: Reply) -> Body:
    value = reply.body["input"]
    texts = [value] if isinstance(value, str) or isinstance(value[0], int) else value
    data = [
        {"object": "embedding", "index": index, "embedding": embedding(reply.body, str(text))}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": reply.prompt_tokens, "total_tokens": reply.prompt_tokens}
    return {"object": "list", "data": data, "model": reply.model, "usage": usage}


def embedding(body: Body, text: str) -> list[float] | str:
    """A unit vector that follows from the text alone, and means nothing."""
    seed = int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "big")
    raw = np.random.default_rng(seed).standard_normal(body.get("dimensions") or EMBEDDING_DIMENSIONS)
    vector = (raw / np.linalg.norm(raw)).astype(np.float32)
    if body.get("encoding_format") == "base64":
        return base64.b64encode(vector.tobytes()).decode()
    return [round(float(x), 7) for x in vector]


# -------------------------------------------------------------------------------------------------- responses


def response_document(reply: Reply) -> Body:
    return response_object(reply, [response_item(reply)]) | {"usage": response_usage(reply)}


def response_object(reply: Reply, output: list[Body]) -> Body:
    """Finished when there is output, in progress when there is none."""
    cut = reply.choices[0].finish == "length"
    body = reply.body
    status = ("incomplete" if cut else "completed") if output else "in_progress"
    return {
        "id": f"resp_demo_{reply.number}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut and output else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "usage": None,
    }


def response_item(reply: Reply) -> Body:
    choice = reply.choices[0]
    status = "incomplete" if choice.finish == "length" else "completed"
    if choice.tool:
        return response_call(reply, status, choice.text)
    return response_message(reply, status, [response_part(choice.text)])


def response_call(reply: Reply, status: str, arguments: str) -> Body:
    names = {"id": f"fc_demo_{reply.number}", "call_id": f"call_demo_{reply.number}"}
    call = {"type": "function_call", "name": reply.choices[0].tool, "arguments": arguments}
    return names | call | {"status": status}


def response_message(reply: Reply, status: str, content: list[Body]) -> Body:
    name = f"msg_demo_{reply.number}"
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def response_part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_usage(reply: Reply) -> Body:
    return {
        "input_tokens": reply.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }


def response_events(reply: Reply) -> Iterator[bytes]:
    for number, (name, fields) in enumerate(response_steps(reply)):
        yield named_event({"type": f"response.{name}", "sequence_number": number} | fields)


def response_steps(reply: Reply) -> Iterator[tuple[str, Body]]:
    started = {"response": response_object(reply, [])}
    yield "created", started
    yield "in_progress", started
    yield from call_steps(reply) if reply.choices[0].tool else text_steps(reply)
    yield "output_item.done", {"output_index": 0, "item": response_item(reply)}
    whole = response_document(reply)
    yield whole["status"], {"response": whole}


def text_steps(reply: Reply) -> Iterator[tuple[str, Body]]:
    text, item = reply.choices[0].text, {"output_index": 0}
    part = item | {"item_id": f"msg_demo_{reply.number}", "content_index": 0}
    yield "output_item.added", item | {"item": response_message(reply, "in_progress", [])}
    yield "content_part.added", part | {"part": response_part("")}
    for piece in reply.choices[0].pieces:
        yield "output_text.delta", part | {"delta": piece, "logprobs": []}
    yield "output_text.done", part | {"text": text, "logprobs": []}
    yield "content_part.done", part | {"part": response_part(text)}


def call_steps(reply: Reply) -> Iterator[tuple[str, Body]]:
    item = {"output_index": 0}
    at = item | {"item_id": f"fc_demo_{reply.number}"}
    yield "output_item.added", item | {"item": response_call(reply, "in_progress", "")}
    for piece in reply.choices[0].pieces:
        yield "function_call_arguments.delta", at | {"delta": piece}
    yield "function_call_arguments.done", at | {"arguments": reply.choices[0].text}


# --------------------------------------------------------------------------------------------------- messages


THOUGHTS = "Simulated thoughts about nothing in particular."


def message_document(reply: Reply) -> Body:
    return message_object(reply, message_blocks(reply), message_stop(reply), reply.completion_tokens)


def message_blocks(reply: Reply) -> list[Body]:
    choice = reply.choices[0]
    thinks = (reply.body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    thoughts = [{"type": "thinking", "thinking": THOUGHTS, "signature": f"demo-signature-{reply.number}"}]
    said: Body = {"type": "text", "text": choice.text}
    if choice.tool:
        name, given = f"toolu_demo_{reply.number}", json.loads(choice.text)
        said = {"type": "tool_use", "id": name, "name": choice.tool, "input": given}
    return [*(thoughts if thinks else ()), said]


def message_object(reply: Reply, content: list[Body], stop: str | None, output_tokens: int) -> Body:
    return {
        "id": f"msg_demo_{reply.number}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": reply.prompt_tokens, "output_tokens": output_tokens},
    }


def message_stop(reply: Reply) -> str:
    choice = reply.choices[0]
    return "tool_use" if choice.tool else "max_tokens" if choice.finish == "length" else "end_turn"


def message_events(reply: Reply) -> Iterator[bytes]:
    yield named_event({"type": "message_start", "message": message_object(reply, [], None, 1)})
    for index, block in enumerate(message_blocks(reply)):
        empty, deltas = block_steps(reply, block)
        yield named_event({"type": "content_block_start", "index": index, "content_block": empty})
        if index == 0:
            yield named_event({"type": "ping"})
        for delta in deltas:
            yield named_event({"type": "content_block_delta", "index": index, "delta": delta})
        yield named_event({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": message_stop(reply), "stop_sequence": None}
    usage = {"output_tokens": reply.completion_tokens}
    yield named_event({"type": "message_delta", "delta": ended, "usage": usage})
    yield named_event({"type": "message_stop"})


def block_steps(reply: Reply, block: Body) -> tuple[Body, list[Body]]:
    tokens = reply.choices[0].pieces
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces_of(THOUGHTS)]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signed]
    if block["type"] == "tool_use":
        begun = {"type": "input_json_delta", "partial_json": ""}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in tokens]
        return {**block, "input": {}}, [begun, *deltas]
    return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in tokens]


def counted_tokens(reply: Reply) -> Body:
    return {"input_tokens": reply.prompt_tokens}


# ----------------------------------------------------------------------------------------------------- ollama


def ollama_streams(body: Body) -> bool:
    return body.get("stream") is not False


def ollama_chat_document(reply: Reply) -> Body:
    return ollama_head(reply) | {"message": ollama_message(reply)} | ollama_end(reply)


def ollama_chat_events(reply: Reply) -> Iterator[bytes]:
    choice, empty = reply.choices[0], {"role": "assistant", "content": ""}
    said = [{**empty, "content": piece} for piece in choice.pieces]
    for message in [ollama_message(reply)] if choice.tool else said:
        yield dumps(ollama_head(reply) | {"message": message, "done": False}) + b"\n"
    yield dumps(ollama_head(reply) | {"message": empty} | ollama_end(reply)) + b"\n"


def ollama_message(reply: Reply) -> Body:
    choice = reply.choices[0]
    if choice.tool is None:
        return {"role": "assistant", "content": choice.text}
    function = {"name": choice.tool, "arguments": json.loads(choice.text)}
    return {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}


def ollama_text_document(reply: Reply) -> Body:
    return ollama_head(reply) | {"response": reply.choices[0].text} | ollama_end(reply)


def ollama_text_events(reply: Reply) -> Iterator[bytes]:
    for piece in reply.choices[0].pieces:
        yield dumps(ollama_head(reply) | {"response": piece, "done": False}) + b"\n"
    yield dumps(ollama_head(reply) | {"response": ""} | ollama_end(reply)) + b"\n"


def ollama_head(reply: Reply) -> Body:
    made = datetime.fromtimestamp(reply.created, UTC)
    return {"model": reply.model, "created_at": made.isoformat().replace("+00:00", "Z")}


def ollama_end(reply: Reply) -> Body:
    cut = reply.choices[0].finish == "length"
    counts = {"prompt_eval_count": reply.prompt_tokens, "eval_count": reply.completion_tokens}
    return {"done": True, "done_reason": "length" if cut else "stop"} | counts


# ----------------------------------------------------------------------------------------------------- errors


def openai_error(refusal: Refusal) -> Body:
    kind = "invalid_request_error"
    if refusal.status == 429:
        kind = "requests"
    elif refusal.status >= 500:
        kind = "server_error"
    fields = {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}
    return {"error": fields}


def ollama_error(refusal: Refusal) -> Body:
    return {"error": refusal.message}


ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def anthropic_error(refusal: Refusal) -> Body:
    kind = ANTHROPIC_ERRORS.get(refusal.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}
