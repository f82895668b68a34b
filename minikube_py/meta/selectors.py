"""Label and field selectors: the query strings of lists and watches, and the selectors within objects.

A parsed selector is an immutable value that matches against a mapping of labels (or fields). Faults are BadRequest, in upstream's words.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

from minikube_py.meta.errors import BadRequest
from minikube_py.meta.names import label_key, label_value


class SelectorError(BadRequest):
    """A selector that cannot be understood."""


class Operator(enum.Enum):
    """What a requirement asks of a key's value."""

    IN = "in"
    NOT_IN = "notin"
    EQUALS = "="
    DOUBLE_EQUALS = "=="
    NOT_EQUALS = "!="
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER = "gt"
    LESS = "lt"


_WANTED = frozenset({Operator.IN, Operator.EQUALS, Operator.DOUBLE_EQUALS})
_UNWANTED = frozenset({Operator.NOT_IN, Operator.NOT_EQUALS})


class Requirement(NamedTuple):
    """One condition on a key."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it."""
        value = labels.get(self.key)
        if self.operator in _WANTED:
            return value is not None and value in self.values
        if self.operator in _UNWANTED:
            return value is None or value not in self.values
        if self.operator is Operator.EXISTS:
            return value is not None
        if self.operator is Operator.DOES_NOT_EXIST:
            return value is None
        number, limit = _integer(value), _integer(self.values[0])
        if number is None or limit is None:
            return False
        return number > limit if self.operator is Operator.GREATER else number < limit

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.value} ({','.join(sorted(self.values))})"
            case _:
                symbol = {Operator.GREATER: ">", Operator.LESS: "<"}.get(self.operator, self.operator.value)
                return f"{self.key}{symbol}{self.values[0]}"


class Selector(NamedTuple):
    """Requirements that must all hold; none at all matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def exact(self, key: str) -> str | None:
        """The one value that a key must have, if the selector asks for one: what an index can answer."""
        for requirement in self.requirements:
            if requirement.key == key and requirement.operator in _WANTED and len(requirement.values) == 1:
                return requirement.values[0]
        return None

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = Selector()
FieldSelector = Selector
"""A field selector has the same shape: its requirements are = and != on field paths. The fields that it is matched against must all be
there, with "" for those that the object does not have."""


class LabelSelectorRequirementLike(Protocol):
    """metav1.LabelSelectorRequirement, as a view has it."""

    @property
    def key(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def values(self) -> Sequence[str]: ...


class LabelSelectorLike(Protocol):
    """metav1.LabelSelector, as a view has it."""

    @property
    def matchLabels(self) -> Mapping[str, str]: ...
    @property
    def matchExpressions(self) -> Sequence[LabelSelectorRequirementLike]: ...


_IN_OBJECTS = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.DOES_NOT_EXIST,
    "Gt": Operator.GREATER,
    "Lt": Operator.LESS,
}


def of_object(selector: LabelSelectorLike | Mapping[str, Any] | None) -> Selector | None:
    """The selector that a metav1.LabelSelector (a view, or decoded JSON) stands for: an empty one matches everything; None, which stands
    for a selector that is not there, nothing. Raises SelectorError for an operator that is not one."""
    if selector is None:
        return None
    if isinstance(selector, Mapping):
        labels: Mapping[str, str] = selector.get("matchLabels") or {}
        expressions = [(e["key"], e["operator"], e.get("values") or ()) for e in selector.get("matchExpressions") or ()]
    else:
        labels = selector.matchLabels
        expressions = [(e.key, e.operator, e.values) for e in selector.matchExpressions]
    requirements = [Requirement(key, Operator.EQUALS, (value,)) for key, value in labels.items()]
    for key, operator, values in expressions:
        if operator not in _IN_OBJECTS:
            raise SelectorError(f'"{operator}" is not a valid label selector operator')
        requirements.append(Requirement(key, _IN_OBJECTS[operator], tuple(values)))
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def matches(selector: LabelSelectorLike | Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector matches labels; None matches nothing. Raises SelectorError."""
    if selector is None:
        return False
    if not isinstance(selector, Mapping) and not selector.matchExpressions:
        get = labels.get
        return all(get(key) == value for key, value in selector.matchLabels.items())
    parsed = of_object(selector)
    return parsed is not None and parsed.matches(labels)


def matcher(selector: LabelSelectorLike | Mapping[str, Any] | None) -> Callable[[Mapping[str, str]], bool]:
    """`matches` for one selector and many labels. Raises SelectorError."""
    if isinstance(selector, Mapping) or selector is None or selector.matchExpressions:
        parsed = of_object(selector)
        return parsed.matches if parsed is not None else lambda labels: False
    return having(selector.matchLabels)


def having(wanted: Mapping[str, str]) -> Callable[[Mapping[str, str]], bool]:
    """Whether labels have all of these among them."""
    if len(wanted) == 1:
        ((only, needed),) = wanted.items()
        return lambda labels: labels.get(only) == needed
    pairs = tuple(wanted.items())

    def all_there(labels: Mapping[str, str]) -> bool:
        for key, value in pairs:  # noqa: SIM110 - a generator costs more than what it looks at
            if labels.get(key) != value:
                return False
        return True

    return all_there


def of_labels(labels: Mapping[str, str]) -> Selector:
    """The selector that asks for exactly these labels (a Service's or ReplicationController's)."""
    return Selector(tuple(Requirement(key, Operator.EQUALS, (labels[key],)) for key in sorted(labels)))


def _integer(text: str | None) -> int | None:
    if text is None or not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


# ---- the query string's language ----

_TOKEN = re.compile(r"[ \t\r\n]*(?:(!=|==|[=!()<>,])|([^ \t\r\n=!()<>,]+))")
_BINARY = {
    "in": Operator.IN,
    "=": Operator.EQUALS,
    "==": Operator.DOUBLE_EQUALS,
    "!=": Operator.NOT_EQUALS,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
}
_BINARY_LISTED = "in, notin, =, ==, !=, gt, lt"


class _Tokens:
    """The tokens of a label selector, with the one that comes next in view; a symbol is (text, True), the end ("", True)."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, bool]] = []
        text = text.rstrip(" \t\r\n")
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            assert match is not None
            self._tokens.append((match[1], True) if match[1] else (match[2], False))
            position = match.end()
        self._tokens.append(("", True))
        self._position = 0

    @property
    def next(self) -> tuple[str, bool]:
        return self._tokens[min(self._position, len(self._tokens) - 1)]

    def take(self) -> tuple[str, bool]:
        token = self.next
        self._position += 1
        return token


def parse_label_selector(text: str) -> Selector:
    """The selector of a labelSelector query parameter (`app=web,tier in (a,b),!canary`). Raises SelectorError."""
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    while True:
        word, symbol = tokens.next
        if word == "" and symbol:
            break
        if symbol and word != "!":
            _fail(f"found '{word}', expected: !, identifier, or 'end of string'")
        try:
            requirements.append(_requirement(tokens))
        except SelectorError as error:
            _fail(f"unable to parse requirement: {error.message}")
        word, symbol = tokens.take()
        if word == "" and symbol:
            break
        if word != "," or not symbol:
            _fail(f"found '{word}', expected: ',' or 'end of string'")
        word, symbol = tokens.next
        if symbol and word != "!":
            _fail(f"found '{word}', expected: identifier after ','")
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _requirement(tokens: _Tokens) -> Requirement:
    key, symbol = tokens.take()
    negated = symbol and key == "!"
    if negated:
        key, symbol = tokens.take()
    if symbol:
        _fail(f"found '{key}', expected: identifier")
    if faults := label_key(key):
        _fail(f'<nil>: Invalid value: "{key}": {"; ".join(faults)}')
    following, symbol = tokens.next
    if negated or (symbol and following in ("", ",")):
        return Requirement(key, Operator.DOES_NOT_EXIST if negated else Operator.EXISTS)
    word, _ = tokens.take()
    operator = _BINARY.get(word)
    if operator is None:
        _fail(f"found '{word}', expected: {_BINARY_LISTED}")
    values = _value_set(tokens) if operator in (Operator.IN, Operator.NOT_IN) else (_exact_value(tokens),)
    for index, value in enumerate(values):
        if operator in (Operator.GREATER, Operator.LESS) and _integer(value) is None:
            _fail(f"values[{index}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")
        if faults := label_value(value):
            _fail(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(faults)}')
    return Requirement(key, operator, values)


def _exact_value(tokens: _Tokens) -> str:
    word, symbol = tokens.next
    if symbol and word in ("", ","):
        return ""
    if symbol:
        _fail(f"found '{word}', expected: identifier")
    return tokens.take()[0]


def _value_set(tokens: _Tokens) -> tuple[str, ...]:
    """(a, b): commas without a value between them stand for the empty value."""
    word, symbol = tokens.take()
    if word != "(" or not symbol:
        _fail(f"found '{word}' expected: '('")
    values: set[str] = set()
    word, symbol = tokens.next
    if symbol and word not in (",", ")"):
        _fail(f"found '{word}', expected: ',', ')' or identifier")
    pending = True
    while True:
        word, symbol = tokens.take()
        if symbol and word == ")":
            if pending:
                values.add("")
            return tuple(sorted(values))
        if symbol and word == ",":
            if pending:
                values.add("")
            pending = True
        elif symbol:
            _fail(f"found '{word}', expected: ',', or identifier")
        elif not pending:
            _fail(f"found '{word}', expected: ',' or ')'")
        else:
            values.add(word)
            pending = False


def _fail(message: str) -> NoReturn:
    raise SelectorError(message)


def parse_field_selector(text: str) -> Selector:
    """The selector of a fieldSelector query parameter (`metadata.name=web,status.phase!=Running`); a backslash escapes `\\`, `,` and `=`
    in values. Raises SelectorError."""
    requirements: list[Requirement] = []
    for term in re.findall(r"(?:[^\\,]|\\.?)+", text, re.DOTALL):
        match = re.match(r"((?:[^\\!=]|\\.|!(?!=))*)(!=|==|=)(.*)", term, re.DOTALL)
        if match is None:
            _fail(f"invalid selector: '{text}'; can't understand '{term}'")
        requirements.append(Requirement(match[1], Operator(match[2]), (_unescaped(match[3]),)))
    return Selector(tuple(requirements))


def _unescaped(value: str) -> str:
    out: list[str] = []
    for part in re.findall(r"\\.?|[^\\]+", value, re.DOTALL):
        if part.startswith("\\"):
            if part[1:] not in ("\\", ",", "="):
                _fail(f"invalid field selector: invalid escape sequence: {part}")
            out.append(part[1:])
        else:
            if "=" in part:
                _fail(f"invalid field selector: unescaped character in value: {ord('=')}")
            out.append(part)
    return "".join(out)


def go_string(labels: Mapping[str, str], expressions: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """A LabelSelector as Go prints the struct, which is what upstream shows in some places; expressions are (key, operator, values)."""
    said = "".join(f"{key}: {value}," for key, value in sorted(labels.items()))
    required = "".join(f"LabelSelectorRequirement{{Key:{k},Operator:{o},Values:[{' '.join(v)}],}}," for k, o, v in expressions)
    return f"&LabelSelector{{MatchLabels:map[string]string{{{said}}},MatchExpressions:[]LabelSelectorRequirement{{{required}}},}}"
