"""The rules for names, labels and keys, with upstream's words for what is wrong. Each check gives the list of faults, empty when there
are none."""

from __future__ import annotations

import re
from collections.abc import Callable

Check = Callable[[str], list[str]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_UNDERSCORED_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORED = rf"{_UNDERSCORED_LABEL}(\.{_UNDERSCORED_LABEL})*"
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_PERCENT = "[0-9]+%"
_HEADER = "[-A-Za-z0-9]+"
_ENV = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

_label, _subdomain, _wildcard = (re.compile(p, re.ASCII).fullmatch for p in (_LABEL, _SUBDOMAIN, _WILDCARD))
_key, _value, _percent, _header = (re.compile(p, re.ASCII).fullmatch for p in (_KEY, _VALUE, _PERCENT, _HEADER))
_env, _config_key, _c_identifier = (re.compile(p, re.ASCII).fullmatch for p in (_ENV, _CONFIG_KEY, _C_IDENTIFIER))
_underscored = re.compile(_UNDERSCORED).fullmatch
_relaxed_env = re.compile("[ -<>-~]*").fullmatch

_ALPHANUMERIC_ENDS = "and must start and end with an alphanumeric character"
_LABEL_FAULT = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ALPHANUMERIC_ENDS}"
_SUBDOMAIN_FAULT = f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ALPHANUMERIC_ENDS}"
_UNDERSCORED_FAULT = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', {_ALPHANUMERIC_ENDS}"
)
_WILDCARD_FAULT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case "
    "alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_KEY_FAULT = f"must consist of alphanumeric characters, '-', '_' or '.', {_ALPHANUMERIC_ENDS}"
_VALUE_FAULT = f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ALPHANUMERIC_ENDS}"


def too_long(limit: int) -> str:
    """The fault of a text over `limit` bytes."""
    return f"must be no more than {limit} bytes"


def regex_fault(words: str, pattern: str, *examples: str) -> str:
    """The fault of a text that does not match, with examples of what does."""
    if not examples:
        return f"{words} (regex used for validation is '{pattern}')"
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{words} (e.g. {listed}regex used for validation is '{pattern}')"


def _length(value: str, limit: int) -> list[str]:
    return [too_long(limit)] if len(value.encode()) > limit else []


def dns1123_label(value: str) -> list[str]:
    """A DNS label: namespaces, containers, volumes."""
    faults = _length(value, 63)
    if not _label(value):
        dotted = _subdomain(value)
        faults.append("must not contain dots" if dotted else regex_fault(_LABEL_FAULT, _LABEL, "my-name", "123-abc"))
    return faults


def dns1123_subdomain(value: str) -> list[str]:
    """A DNS subdomain: the name of most objects."""
    faults = _length(value, 253)
    if not _subdomain(value):
        faults.append(regex_fault(_SUBDOMAIN_FAULT, _SUBDOMAIN, "example.com"))
    return faults


def underscored_dns1123_subdomain(value: str) -> list[str]:
    """A DNS subdomain that may have underscores, as the names of SRV records do: search paths."""
    faults = _length(value, 253)
    if not _underscored(value):
        faults.append(regex_fault(_UNDERSCORED_FAULT, _UNDERSCORED, "example.com"))
    return faults


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    """*.example.com: hosts of an Ingress."""
    faults = _length(value, 253)
    if not _wildcard(value):
        faults.append(regex_fault(_WILDCARD_FAULT, _WILDCARD, "*.example.com"))
    return faults


def path_segment(value: str) -> list[str]:
    """What can stand in a URL's path: names of RBAC objects."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


def label_key(value: str) -> list[str]:
    """A label's or annotation's key (a qualified name): an optional DNS prefix, and a name."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        words = "a valid label key " + regex_fault(_KEY_FAULT, _KEY, "MyName", "my.name", "123-abc")
        return [f"{words} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    faults: list[str] = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif slash:
        faults += [f"prefix part {fault}" for fault in dns1123_subdomain(prefix)]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        faults.append(f"name part {too_long(63)}")
    if not _key(name):
        faults.append("name part " + regex_fault(_KEY_FAULT, _KEY, "MyName", "my.name", "123-abc"))
    return faults


qualified_name = label_key


def label_value(value: str) -> list[str]:
    """A label's value."""
    faults = _length(value, 63)
    if not _value(value):
        faults.append(regex_fault(_VALUE_FAULT, _VALUE, "MyValue", "my_value", "12345"))
    return faults


def config_map_key(value: str) -> list[str]:
    """A key in the data of a ConfigMap or Secret."""
    faults = _length(value, 253)
    if not _config_key(value):
        words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        faults.append(regex_fault(words, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return faults + _parent_folder(value)


def env_var_name(value: str) -> list[str]:
    """The name of an environment variable, as it must be where it is to be a shell's variable too."""
    faults: list[str] = []
    if not _env(value):
        words = (
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
            "and must not start with a digit"
        )
        faults.append(regex_fault(words, _ENV, "my.env-name", "MY_ENV.NAME", "MyEnvName1"))
    return faults + _parent_folder(value)


def relaxed_env_var_name(value: str) -> list[str]:
    """The name of an environment variable, as containers may have it."""
    faults = [] if value else ["environment variable name must be non-empty"]
    if not _relaxed_env(value):
        faults.append("a valid environment variable name must consist only of printable ASCII characters other than '='")
    return faults


def port_name(value: str) -> list[str]:
    """The name of a port (RFC 6335)."""
    faults = _length(value, 15)
    if not re.fullmatch("[-a-z0-9]+", value):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        faults.append("must contain at least one letter (a-z)")
    if "--" in value:
        faults.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def percent(value: str) -> list[str]:
    """A percentage, such as 25%."""
    if _percent(value):
        return []
    return [regex_fault("a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%")]


def http_header_name(value: str) -> list[str]:
    """The name of an HTTP header."""
    if _header(value):
        return []
    return [regex_fault("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name")]


def c_identifier(value: str) -> list[str]:
    """An identifier of the C language."""
    if _c_identifier(value):
        return []
    words = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
    return [regex_fault(words, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def in_range(value: int, least: int, most: int) -> list[str]:
    """A number between two, both included."""
    return [] if least <= value <= most else [f"must be between {least} and {most}, inclusive"]


def port_number(value: int) -> list[str]:
    """A port."""
    return in_range(value, 1, 65535)


def as_prefix(check: Check) -> Check:
    """The check of a generateName: a dash at its end is fine, since more follows."""

    def prefix(value: str) -> list[str]:
        return check(value[:-1] + "a" if len(value) > 1 and value.endswith("-") else value)

    return prefix


def _parent_folder(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []
