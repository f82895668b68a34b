"""Bodies: JSON and YAML as upstream reads them, and what is said of those that cannot be read."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.schema.decode import MAX_YAML, TOO_DEEP, parse_json, parse_yaml
from minikube_py.schema.errors import DecodeError

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(_values, st.sampled_from([None, 1]), st.booleans())
def test_json_is_read_whatever_its_layout(value: Any, indent: int | None, ascii: bool) -> None:
    assert parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii).encode()) == (value, [])


_keys = st.sampled_from(["a", "b", 'q"', "back\\", "back\\ ", 'q" :', ":", '":', "\u00e9"])


@st.composite
def _written(draw: st.DrawFn, depth: int = 3) -> tuple[str, list[str]]:
    """The text of an object, and the paths that are in it twice."""
    text, twice, seen = [], {}, set()
    for _ in range(draw(st.integers(0, 4))):
        key = draw(_keys)
        inner, found = (
            draw(_written(depth - 1)) if depth and draw(st.booleans()) else (draw(st.sampled_from(["1", '"\\":"', "null", '""'])), [])
        )
        if key in seen:
            twice[key] = None
        seen.add(key)
        twice.update(dict.fromkeys(f"{key}.{path}" for path in found))
        space = draw(st.sampled_from(["", "", " ", "\n\t"]))
        text.append(f"{json.dumps(key, ensure_ascii=draw(st.booleans()))}{space}:{inner}")
    return "{" + ",".join(text) + "}", list(twice)


@given(_written())
def test_fields_that_are_there_twice_are_found(case: tuple[str, list[str]]) -> None:
    text, twice = case
    value, found = parse_json(text.encode())
    assert value == json.loads(text)
    assert sorted(found) == sorted(twice)


def test_keys_that_look_like_others_without_their_white_space_hide_no_duplicates() -> None:
    assert parse_json(b'{"a\\\\ ":1,"b":2,"b":3}')[1] == ["b"]


def test_paths_of_duplicates_go_through_lists() -> None:
    assert parse_json(b'{"spec":{"c":[{"a":1},{"a":1,"a":2}]}}') == ({"spec": {"c": [{"a": 1}, {"a": 2}]}}, ["spec.c[1].a"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"a":1', "unexpected end of JSON input"),
        (b'{"a":"x', "unexpected end of JSON input"),
        (b"tru", "unexpected end of JSON input"),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"{}x", "invalid character 'x' after top-level value"),
        (b'{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b'{"a":-}', "invalid character '}' in numeric literal"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'"a\nb"', r"invalid character '\n' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"1e999", "json: cannot unmarshal number 1e999 into Go value of type float64"),
    ],
)
def test_faults_of_json(body: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_json(body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"[" * 300 + b"]" * 300]
)
def test_deep_nesting_is_refused_at_once(body: bytes) -> None:
    started = time.thread_time()
    for parse in (parse_json, parse_yaml):
        with pytest.raises(DecodeError, match=TOO_DEEP):
            parse(body)
    assert time.thread_time() - started < 0.1


def test_text_that_is_no_unicode_is_read_as_go_reads_it() -> None:
    assert parse_json(b'{"a":"\xff \\ud800 \\ud83d\\ude00 \\\\ud800"}')[0] == {"a": "\ufffd \ufffd \U0001f600 \\ud800"}


@given(st.binary(max_size=40) | st.text('{}[]",:truefalsn0123456789.eE+-\\u \n', max_size=40).map(str.encode))
def test_no_body_breaks_the_parsers(body: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        try:
            parse(body)
        except DecodeError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("y", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("012", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("08", 8),
        ("1_000", 1000),
        ("1.0", 1),
        ("1e3", 1000),
        (".5", 0.5),
        ("-1.5", -1.5),
        ("1.2.3", "1.2.3"),
        ("12:30:45", "12:30:45"),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("'yes'", "yes"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("!!binary aGk=", "hi"),
        ("18446744073709551615", 2**64 - 1),
        ("=", "="),
    ],
)
def test_scalars_of_yaml(text: str, value: Any) -> None:
    parsed = parse_yaml(f"a: {text}".encode())[0]["a"]
    assert parsed == value and type(parsed) is type(value)


def test_keys_become_strings() -> None:
    assert parse_yaml(b"on: 1\n1: 2\n1.5: 3\nno: 4\n'x': 5") == ({"true": 1, "1": 2, "1.5": 3, "false": 4, "x": 5}, [])


def test_aliases_and_merges() -> None:
    value, _ = parse_yaml(b"a: &x {b: 1, c: [1]}\nd: *x\ne:\n  <<: *x\n  b: 2\n")
    assert value == {"a": {"b": 1, "c": [1]}, "d": {"b": 1, "c": [1]}, "e": {"b": 2, "c": [1]}}
    value["a"]["c"].append(2)
    assert value["d"]["c"] == [1], "an alias is a copy"


def test_duplicate_keys_of_yaml_and_the_first_document_alone() -> None:
    assert parse_yaml(b"a: 1\nb:\n- c: 1\n  c: 2\na: 3\n---\nx: 1\n") == ({"a": 3, "b": [{"c": 2}]}, ["b[0].c", "a"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a: 1\nb: c: d", "yaml: line 2: mapping values are not allowed in this context"),
        (b"a: [", "yaml: line 1: did not find expected node content"),
        (b"a: .nan", "json: unsupported value: NaN"),
        (b"a: -.inf", "json: unsupported value: -Inf"),
        (b"a: &a [*a]", "yaml: anchor 'a' value contains itself"),
        (b"a: *b", "yaml: unknown anchor 'b' referenced"),
        (b"? [a]\n: 1", "unsupported map key of type: slice"),
        (b"<<: 1", "yaml: map merge requires map or sequence of maps as the value"),
    ],
)
def test_faults_of_yaml(body: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_yaml(body)
    assert str(caught.value) == message


def test_a_few_lines_cannot_stand_for_gigabytes() -> None:
    lines = [f"a0: &a0 [{','.join(['lol'] * 9)}]"]
    lines += [f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]" for i in range(9)]
    started = time.thread_time()
    with pytest.raises(DecodeError, match="document contains excessive aliasing"):
        parse_yaml("\n".join(lines).encode())
    long = "a: &a " + "x" * 60_000 + "\nb: [" + ",".join(["*a"] * 20_000) + "]"
    with pytest.raises(DecodeError, match=r"document contains excessive aliasing|bytes, more than"):
        parse_yaml(long.encode())
    assert time.thread_time() - started < 0.25


def test_the_size_of_yaml_is_bounded_and_json_goes_on() -> None:
    big = json.dumps({"data": {f"k{i}": "v" * 100 for i in range(3000)}}).encode()
    assert len(big) > MAX_YAML
    assert len(parse_yaml(big)[0]["data"]) == 3000
    with pytest.raises(DecodeError, match=f"more than the {MAX_YAML} that are read here: send it as JSON"):
        parse_yaml(b"a: 1\n" + b"#" * MAX_YAML)


def test_numbers_that_would_keep_a_matcher_busy() -> None:
    started = time.thread_time()
    with pytest.raises(DecodeError, match="cannot unmarshal number 1e999"):
        parse_json(b"[0." + b"1" * 10**6 + b",1e999]")
    assert time.thread_time() - started < 0.2
