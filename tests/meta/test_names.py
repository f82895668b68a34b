"""The rules for names, in upstream's words."""

import pytest

from minikube_py.meta import names

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', "
    r"regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
UNDERSCORED = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', "
    r"regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
    "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
    "'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("check", "value", "faults"),
    [
        (names.dns1123_subdomain, "web.example.com", []),
        (names.dns1123_subdomain, "Web", [SUBDOMAIN]),
        (names.dns1123_subdomain, "web\n", [SUBDOMAIN]),
        (names.dns1123_subdomain, "a" * 254, ["must be no more than 253 bytes"]),
        (names.underscored_dns1123_subdomain, "_sip._tcp.abc_d.example.com", []),
        (names.underscored_dns1123_subdomain, "a._", [UNDERSCORED]),
        (names.dns1123_label, "web", []),
        (names.dns1123_label, "web.a", ["must not contain dots"]),
        (names.dns1123_label, "-web", [LABEL]),
        (names.dns1123_label, "a" * 64, ["must be no more than 63 bytes"]),
        (names.label_key, "app", []),
        (names.label_key, "example.com/app", []),
        (names.label_key, "/app", ["prefix part must be non-empty"]),
        (names.label_key, "", ["name part must be non-empty", KEY]),
        (names.label_key, "a b", [KEY]),
        (names.label_key, "a" * 64, ["name part must be no more than 63 bytes"]),
        (names.label_key, "X/app", [f"prefix part {SUBDOMAIN}"]),
        (names.label_value, "", []),
        (names.label_value, "My_value.1", []),
        (names.path_segment, "a:b", []),
        (names.path_segment, "..", ["may not be '..'"]),
        (names.path_segment, "a/b%", ["may not contain '/'", "may not contain '%'"]),
        (names.config_map_key, "app.properties", []),
        (names.config_map_key, "..data", ["must not start with '..'"]),
        (names.config_map_key, "..", ["must not be '..'"]),
        (names.env_var_name, "MY.VAR-1", []),
        (names.relaxed_env_var_name, "1 2", []),
        (names.relaxed_env_var_name, "", ["environment variable name must be non-empty"]),
        (names.port_name, "http-1", []),
        (names.port_name, "8080", ["must contain at least one letter (a-z)"]),
        (names.port_name, "a--b", ["must not contain consecutive hyphens"]),
        (names.port_number, 0, ["must be between 1 and 65535, inclusive"]),
        (names.percent, "25%", []),
    ],
)
def test_faults(check: names.Check, value: str, faults: list[str]) -> None:
    assert check(value) == faults


def test_a_generated_name_may_end_in_a_dash_before_its_random_part() -> None:
    assert names.as_prefix(names.dns1123_subdomain)("web-") == []
    assert names.dns1123_subdomain("web-") == [SUBDOMAIN]
    assert names.as_prefix(names.dns1123_subdomain)("Web-") == [SUBDOMAIN]
