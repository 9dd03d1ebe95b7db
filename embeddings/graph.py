"""Builds a BERT encoder as an ONNX model, without the `onnx` package.

The model holds only the structure, some 10 kB. It refers to the weights as external data, which the session
gets as arrays in memory. So nothing is exported, converted or stored twice on disk, and any number of layers,
heads and dimensions works.

Field numbers are those of onnx.proto (ONNX IR version 8, opset 17); operators of the domain `com.microsoft`
are ONNX Runtime's fused ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FLOAT, _INT32, _INT64 = 1, 6, 7
_TYPES = {np.dtype(np.float32): _FLOAT, np.dtype(np.int64): _INT64}
_EXTERNAL = 1


def bert(weights: Mapping[str, NDArray[np.float32]], *, layers: int, heads: int, epsilon: float) -> Graph:
    """Inputs: `ids` (texts, longest) int64, padded on the right with any value, and `lengths` (texts,) int32.
    Output: `hidden` (texts, longest, dimensions) float32; rows beyond a text's length are undefined.

    `weights` has the names of Hugging Face's BertModel. Raises KeyError for a missing one.
    """
    graph = Graph()
    x = _embeddings(graph, weights, epsilon)
    for layer in range(layers):
        x = _layer(graph, weights, f"encoder.layer.{layer}.", x, heads, epsilon)
    graph.end(x)
    return graph


def _embeddings(graph: Graph, weights: Mapping[str, Array], epsilon: float) -> str:
    # Every token has type 0, so that row of the type table can be added to the position table here.
    table = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    zero = graph.weight("zero", np.zeros(1, np.int64))
    longest = graph.add("Shape", "ids", start=1, end=2)
    positions = graph.add("Slice", graph.weight("positions", table), zero, longest, zero)
    words = graph.add("Gather", graph.weight("words", weights["embeddings.word_embeddings.weight"]), "ids")
    norm = _vectors(graph, weights, "embeddings.LayerNorm")
    return graph.add(
        "LayerNormalization", graph.add("Add", words, positions), *norm, axis=-1, epsilon=epsilon
    )


def _layer(graph: Graph, weights: Mapping[str, Array], at: str, x: str, heads: int, epsilon: float) -> str:
    attended = _attention(graph, weights, f"{at}attention.self.", x, heads)
    x = _project_and_add(graph, weights, f"{at}attention.output.", attended, x, epsilon)
    inner = graph.add("MatMul", x, _matrix(graph, weights, f"{at}intermediate.dense"))
    active = graph.fused(
        "BiasGelu", inner, graph.weight(f"{at}inner.bias", weights[f"{at}intermediate.dense.bias"])
    )
    return _project_and_add(graph, weights, f"{at}output.", active, x, epsilon)


def _attention(graph: Graph, weights: Mapping[str, Array], at: str, x: str, heads: int) -> str:
    parts = ("query", "key", "value")
    matrix = np.concatenate([weights[f"{at}{part}.weight"] for part in parts]).T
    bias = np.concatenate([weights[f"{at}{part}.bias"] for part in parts])
    joined = (graph.weight(f"{at}matrix", matrix), graph.weight(f"{at}bias", bias))
    return graph.fused("Attention", x, *joined, "lengths", num_heads=heads)


def _project_and_add(
    graph: Graph, weights: Mapping[str, Array], at: str, x: str, residual: str, epsilon: float
) -> str:
    projected = graph.add("MatMul", x, _matrix(graph, weights, f"{at}dense"))
    norm = _vectors(graph, weights, f"{at}LayerNorm")
    bias = graph.weight(f"{at}dense.bias", weights[f"{at}dense.bias"])
    return graph.fused("SkipLayerNormalization", projected, residual, *norm, bias, epsilon=epsilon)


def _matrix(graph: Graph, weights: Mapping[str, Array], name: str) -> str:
    return graph.weight(f"{name}.weight", weights[f"{name}.weight"].T)


def _vectors(graph: Graph, weights: Mapping[str, Array], name: str) -> tuple[str, str]:
    weight, bias = (graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return weight, bias


class Graph:
    """Collects nodes and weights; `model` serialises them."""

    def __init__(self) -> None:
        self.weights: dict[str, Array] = {}
        self._nodes: list[bytes] = []

    def weight(self, name: str, array: Array) -> str:
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def add(self, operator: str, *inputs: str, **attributes: float) -> str:
        """Adds a node with one output, and returns the name of that output."""
        return self._node(operator, inputs, f"{operator}_{len(self._nodes)}", "", attributes)

    def fused(self, operator: str, *inputs: str, **attributes: float) -> str:
        return self._node(operator, inputs, f"{operator}_{len(self._nodes)}", "com.microsoft", attributes)

    def end(self, last: str) -> None:
        self._node("Identity", [last], "hidden", "", {})

    def _node(
        self, operator: str, inputs: Sequence[str], output: str, domain: str, attributes: Mapping[str, float]
    ) -> str:
        node = [_field(1, name) for name in inputs]
        node += [_field(2, output), _field(3, output), _field(4, operator), _field(7, domain)]
        node += [_field(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(b"".join(node))
        return output

    def model(self) -> bytes:
        """A serialised ModelProto whose weights are external data under their own names."""
        graph = [_field(1, node) for node in self._nodes]
        graph += [_field(2, "encoder")]
        graph += [_field(5, _tensor(name, array)) for name, array in self.weights.items()]
        graph += [_field(11, _value("ids", _INT64, ("texts", "longest")))]
        graph += [_field(11, _value("lengths", _INT32, ("texts",)))]
        graph += [_field(12, _value("hidden", _FLOAT, ("texts", "longest", "dimensions")))]
        opsets = [
            _field(8, _field(1, domain) + _field(2, at)) for domain, at in (("", 17), ("com.microsoft", 1))
        ]
        return b"".join([_field(1, 8), _field(7, b"".join(graph)), *opsets])


def _tensor(name: str, array: Array) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    where = _field(1, "location") + _field(2, name)
    return dims + _field(2, _TYPES[array.dtype]) + _field(8, name) + _field(13, where) + _field(14, _EXTERNAL)


def _value(name: str, element: int, shape: Sequence[str]) -> bytes:
    dims = b"".join(_field(1, _field(2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, dims)))


def _attribute(name: str, value: float) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + _field(2, value) + _field(20, 1)


def _field(number: int, value: bytes | str | int | float) -> bytes:
    """One protobuf field: varint, 32-bit float, or bytes with their length."""
    match value:
        case int():
            return _varint(number << 3) + _varint(value)
        case float():
            return _varint(number << 3 | 5) + struct.pack("<f", value)
        case str():
            value = value.encode()
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
