"""The binary extension there and back: what is framed by the protocol's words is parsed to what it was."""

import json
import struct

from hypothesis import given
from hypothesis import strategies as st

from transformer.messages import InferAnswer
from transformer.rest.body import Form, parse_request, render_answer
from transformer.tensors import OutputTensor, RawContent, read_bytes

ELEMENTS = st.lists(st.binary(max_size=50), max_size=5)


def raw(elements):
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@given(st.lists(ELEMENTS, min_size=1, max_size=4), st.text(max_size=10))
def test_a_framed_request_is_parsed_to_its_elements(tensors, name):
    inputs = [
        {
            "name": f"{name}{n}",
            "datatype": "BYTES",
            "shape": [len(elements)],
            "parameters": {"binary_data_size": len(raw(elements))},
        }
        for n, elements in enumerate(tensors)
    ]
    text = json.dumps({"id": name, "inputs": inputs}).encode()
    request, _ = parse_request(text + b"".join(map(raw, tensors)), str(len(text)), "roofs", "3")
    assert request.id == name
    assert [tensor.name for tensor in request.inputs] == [fields["name"] for fields in inputs]
    assert all(isinstance(tensor.content, RawContent) for tensor in request.inputs)
    assert [[bytes(element) for element in read_bytes(tensor)] for tensor in request.inputs] == tensors


@given(st.lists(ELEMENTS, min_size=1, max_size=4))
def test_a_binary_answer_is_framed_as_it_says(tensors):
    outputs = tuple(OutputTensor(f"o{n}", (len(elements),), elements) for n, elements in enumerate(tensors))
    body, length = render_answer(InferAnswer("roofs", "3", "", {}, outputs), Form({}, other=True))
    fields, rest = json.loads(body[:length]), body[length:]
    for output, elements in zip(fields["outputs"], tensors, strict=True):
        size = output["parameters"]["binary_data_size"]
        assert rest[:size] == raw(elements)
        rest = rest[size:]
    assert rest == b""
