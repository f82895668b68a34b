"""Selectors: what they match, how they are written, and what is said of those that are not understood."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.meta.selectors import (
    EVERYTHING,
    Operator,
    Requirement,
    Selector,
    SelectorError,
    matcher,
    matches,
    of_labels,
    of_object,
    parse_field_selector,
    parse_label_selector,
)
from minikube_py.types.meta import LabelSelector, LabelSelectorRequirement

LABELS = {"app": "web", "tier": "front", "size": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=back", True),
        ("app=db", False),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("missing!=x", True),
        ("app in (web, db)", True),
        ("app notin (web)", False),
        ("missing notin (web)", True),
        ("size>4", True),
        ("size>5", False),
        ("size<6", True),
        ("app>1", False),
        ("empty=", True),
        ("empty in (,)", True),
        ("x in (),app", False),
        ("in in (a)", False),
    ],
)
def test_label_selectors_match(text: str, matched: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matched


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("a=!", "unable to parse requirement: found '!', expected: identifier"),
        (
            "a<x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_label_selectors_that_are_not_understood(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_label_selector(text)
    assert (caught.value.message, caught.value.code) == (message, 400)


def test_keys_and_values_follow_the_rules_of_labels() -> None:
    with pytest.raises(SelectorError, match='unable to parse requirement: <nil>: Invalid value: "-a": name part must consist'):
        parse_label_selector("-a=b")
    with pytest.raises(SelectorError, match=r"unable to parse requirement: values\[0\]\[a\]: Invalid value: \"b/c\": a valid label must"):
        parse_label_selector("a=b/c")


_words = st.from_regex(r"[a-z0-9]([-a-z0-9_.]{0,5}[a-z0-9])?", fullmatch=True).filter(lambda word: word not in ("in", "notin"))
_requirements = st.one_of(
    st.builds(lambda k, o, v: Requirement(k, o, (v,)), _words, st.sampled_from([Operator.EQUALS, Operator.NOT_EQUALS]), _words),
    st.builds(lambda k, o: Requirement(k, o), _words, st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST])),
    st.builds(
        lambda k, o, v: Requirement(k, o, tuple(sorted(v))),
        _words,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sets(_words, min_size=1, max_size=3),
    ),
)


@given(st.lists(_requirements, max_size=4))
def test_what_is_written_is_read_back(requirements: list[Requirement]) -> None:
    selector = Selector(tuple(sorted(requirements, key=lambda r: r.key)))
    assert parse_label_selector(str(selector)) == selector


@given(st.text("ab=!(),<> in\tnot", max_size=20))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse_label_selector(text)
        parse_field_selector(text)
    except SelectorError:
        pass


def test_field_selectors() -> None:
    fields = {"metadata.name": "web", "status.phase": "Running", "spec.nodeName": ""}
    assert parse_field_selector("metadata.name=web,status.phase!=Failed").matches(fields)
    assert parse_field_selector("spec.nodeName=").matches(fields)
    assert not parse_field_selector("spec.nodeName!=").matches(fields)
    assert parse_field_selector(r"metadata.name=a\,b\=c").exact("metadata.name") == "a,b=c"
    assert parse_field_selector("") == EVERYTHING
    with pytest.raises(SelectorError, match="invalid selector: 'name'; can't understand 'name'"):
        parse_field_selector("name")
    with pytest.raises(SelectorError, match=r"invalid field selector: invalid escape sequence: \\x"):
        parse_field_selector(r"a=\x")


def test_selectors_within_objects() -> None:
    view = SimpleNamespace(
        matchLabels={"app": "web"}, matchExpressions=(SimpleNamespace(key="tier", operator="In", values=("front", "back")),)
    )
    raw = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}
    for selector in (view, raw):
        assert matches(selector, LABELS)
        assert not matches(selector, {"app": "web"})
        assert str(of_object(selector)) == "app=web,tier in (back,front)"
    assert matches({}, {}) and matches(SimpleNamespace(matchLabels={}, matchExpressions=()), LABELS)
    assert not matches(None, LABELS)
    with pytest.raises(SelectorError, match='"Like" is not a valid label selector operator'):
        of_object({"matchExpressions": [{"key": "a", "operator": "Like"}]})


def test_an_index_can_answer_an_exact_requirement() -> None:
    assert of_labels({"b": "2", "a": "1"}).exact("b") == "2"
    assert parse_label_selector("a in (x),b in (x,y),c!=z").exact("a") == "x"
    assert parse_label_selector("a in (x),b in (x,y),c!=z").exact("b") is None
    assert parse_label_selector("c!=z").exact("c") is None


@pytest.mark.parametrize("wanted", [{}, {"a": "1"}, {"a": ""}, {"a": "1", "b": "2"}])
def test_a_matcher_says_what_matches_says(wanted: dict[str, str]) -> None:
    expression = LabelSelectorRequirement(key="c", operator="DoesNotExist")
    for selector in (LabelSelector(matchLabels=wanted), LabelSelector(matchLabels=wanted, matchExpressions=(expression,)), None):
        chosen = matcher(selector)
        for labels in ({}, {"a": "1"}, {"a": ""}, {"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "b": "2", "c": ""}):
            assert chosen(labels) == matches(selector, labels)
