"""The OpenAPI v2 document as protobuf: read back by field number, it says what the JSON document says."""

import json
from typing import Any

import pytest

from minikube_py.resources.registry import built_in
from minikube_py.schema import openapi_wire
from minikube_py.schema.openapi import OpenAPI


def fields(data: bytes) -> dict[int, list[Any]]:
    """A message's fields: bytes, or numbers where they are varints."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    at, found = 0, dict[int, list[Any]]()
    while at < len(data):
        key = varint()
        assert key & 7 in (0, 2)
        value: Any = varint()
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
            assert len(value) <= len(data)
        found.setdefault(key >> 3, []).append(value)
    assert at == len(data)
    return found


def named(entries: list[bytes]) -> dict[str, bytes]:
    return {(entry := fields(data))[1][0].decode(): entry[2][0] for data in entries}


@pytest.fixture(scope="module")
def documents() -> tuple[dict[str, Any], dict[int, list[Any]]]:
    api = OpenAPI(built_in(), "v1.36.0")
    return json.loads(api.document_v2().plain()), fields(api.document_v2_protobuf().plain())


def test_every_definition_is_there_with_its_properties(documents: tuple[dict[str, Any], dict[int, list[Any]]]) -> None:
    plain, wire = documents
    definitions = named(fields(wire[9][0])[1])
    assert definitions.keys() == plain["definitions"].keys()
    for name, schema in plain["definitions"].items():
        read = fields(definitions[name])
        assert [text.decode() for text in read.get(4, [])] == ([schema["description"]] if "description" in schema else [])
        properties = named(fields(read[25][0])[1]) if read.get(25, [b""])[0] else {}
        assert properties.keys() == schema.get("properties", {}).keys()
        extensions = {key: json.loads(fields(value)[2][0]) for key, value in named(read.get(31, [])).items()}
        assert extensions == {key: value for key, value in schema.items() if key.startswith("x-")}
        for key, value in schema.get("properties", {}).items():
            assert [text.decode() for text in fields(properties[key]).get(1, [])] == ([value["$ref"]] if "$ref" in value else [])


def test_every_path_is_there_and_says_how_it_is_patched(documents: tuple[dict[str, Any], dict[int, list[Any]]]) -> None:
    plain, wire = documents
    paths = named(fields(wire[8][0])[2])
    assert paths.keys() == plain["paths"].keys()
    patched = fields(fields(paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"])[8][0])
    kind = {key: json.loads(fields(value)[2][0]) for key, value in named(patched[13]).items()}["x-kubernetes-group-version-kind"]
    assert kind == {"group": "apps", "version": "v1", "kind": "Deployment"}
    queries = set()
    for item in patched[8]:
        parameter = fields(fields(item)[1][0])
        if 2 in parameter:
            queries |= {name.decode() for name in fields(fields(parameter[2][0])[3][0])[4]}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= queries


def test_what_the_tables_do_not_know_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        openapi_wire.encode({"swagger": "2.0", "nonsense": 1})
