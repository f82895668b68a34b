"""The errors of this package: a body that cannot be read, or a patch that cannot be applied. The API server turns them into Statuses."""

from __future__ import annotations


class SchemaError(ValueError):
    """Base of the errors here; str() is the text that upstream answers for the same fault."""


class DecodeError(SchemaError):
    """A body that is not well-formed, or does not fit the Go type that upstream decodes it into."""


class MismatchError(DecodeError):
    """A JSON value of the wrong type. It is raised where the value is; each struct on the way up adds the name of its field, so that the
    text names the innermost struct and the path from the root, as encoding/json does."""

    def __init__(self, got: str, wanted: str) -> None:
        super().__init__()
        self.got, self.wanted = got, wanted
        self.struct = ""
        self.fields: list[str] = []

    def inside(self, struct: str, field: str) -> None:
        """The value was (within) this field of this struct."""
        if not self.struct:
            self.struct = struct
        self.fields.append(field)

    def __str__(self) -> str:
        if not self.struct:
            return f"json: cannot unmarshal {self.got} into Go value of type {self.wanted}"
        return (
            f"json: cannot unmarshal {self.got} into Go struct field {self.struct}.{'.'.join(reversed(self.fields))} of type {self.wanted}"
        )
