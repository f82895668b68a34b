"""The log as a list of all its records: the plainest thing that answers the same questions as the store."""

from __future__ import annotations

from minikube_py.store.api import Record


class Model:
    """All records that were ever acknowledged, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @property
    def revision(self) -> int:
        return self.records[-1].revision if self.records else 0

    def add(self, key: str, revision: int, value: bytes | None) -> Record:
        """What a write must come to."""
        now = self.at(key, revision)
        if value is None:
            assert now is not None
            record = Record(key, revision, now.create_revision, now.revision, True, now.value)
        elif now is None:
            record = Record(key, revision, revision, 0, False, value)
        else:
            record = Record(key, revision, now.create_revision, now.revision, False, value)
        self.records.append(record)
        return record

    def at(self, key: str, revision: int) -> Record | None:
        """The state of a key."""
        for record in reversed(self.records):
            if record.key == key and record.revision <= revision:
                return None if record.deleted else record
        return None

    def range(self, prefix: str, revision: int, after: str = "") -> list[Record]:
        """What is alive, in key order."""
        state: dict[str, Record] = {}
        for record in self.records:
            if record.revision <= revision and record.key.startswith(prefix) and record.key > after:
                state[record.key] = record
        return [state[key] for key in sorted(state) if not state[key].deleted]

    def since(self, prefix: str, revision: int, until: int) -> list[Record]:
        """What has happened."""
        return [record for record in self.records if revision < record.revision <= until and record.key.startswith(prefix)]
