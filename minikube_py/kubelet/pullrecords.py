"""Who has shown that he may use which image, kept on disk: what KEP-2535 asks for, so that one pod's pull does not open an image to all.

One file an image, named by the digest of its id, written whole and moved into place. An image without a record was there before this agent
pulled anything (an archive, another tool): by the default policy everybody may use it. What always holds: a record is written before the
pod that pulled the image starts; what cannot be read counts as "has to be shown".
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from minikube_py.kubelet.keyring import Credential, repository_of

log = logging.getLogger(__name__)

_MOST_SECRETS = 100


class Holder(msgspec.Struct, frozen=True):
    """A secret whose credentials have worked."""

    uid: str
    namespace: str
    name: str
    digest: str


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who may use an image under one name: every pod of the node, or those that have one of these secrets."""

    everybody: bool = False
    holders: tuple[Holder, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """What is known of one image, by the repository that it was asked for under."""

    image: str
    access: dict[str, Access] = {}


class PullRecords:
    """The records of one node. Everything blocks for a small file."""

    def __init__(self, directory: Path, policy: str) -> None:
        self._directory, self._policy = directory, policy
        self._known: dict[str, Record] = {}
        """Records that were read or written: files that are there are only looked for once."""

    def must_pull(self, name: str, image: str, credentials: Sequence[Credential]) -> bool:
        """Whether a pod with these credentials has to show to the registry that it may use an image that is already here."""
        if self._policy == "NeverVerify":
            return False
        try:
            record = self._read(image)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("a pull record cannot be read", extra={"image": name, "error": str(error)})
            return True
        if record is None:
            return self._policy == "AlwaysVerify" or self._intent(name).exists()
        access = record.access.get(repository_of(name))
        if access is None:
            return True
        if access.everybody:
            return False
        for credential in credentials:
            holder = Holder(*credential.source, credential.digest)
            if holder in access.holders:
                return False
            same_secret = any(h.uid == holder.uid and h.namespace == holder.namespace and h.name == holder.name for h in access.holders)
            if same_secret or any(h.digest == holder.digest for h in access.holders):
                self.pulled(name, image, credential)
                return False
        return True

    def begin(self, name: str) -> None:
        """A pull begins: should this process die on the way, the image does not count as one that was there before. Raises OSError."""
        self._intent(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._intent(name).touch()

    def end(self, name: str) -> None:
        """A pull has ended, and was recorded where it worked."""
        with contextlib.suppress(OSError):
            self._intent(name).unlink()

    def pulled(self, name: str, image: str, credential: Credential | None) -> None:
        """An image was pulled, with this credential or with none. Raises nothing: without a record the next pod has to show more."""
        try:
            record = self._read(image) or Record(image)
        except (OSError, msgspec.DecodeError):
            record = Record(image)
        repository = repository_of(name)
        access = record.access.get(repository, Access())
        if credential is None:
            access = Access(everybody=True)
        elif not access.everybody:
            holder = Holder(*credential.source, credential.digest)
            others = (h for h in access.holders if (h.uid, h.namespace, h.name) != (holder.uid, holder.namespace, holder.name))
            access = Access(holders=(*others, holder)[-_MOST_SECRETS:])
        if record.access.get(repository) == access:
            return
        record = Record(image, {**record.access, repository: access})
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path(image).with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(record))
            fresh.replace(self._path(image))
        except OSError as error:
            log.error("a pull record cannot be written", extra={"image": name, "error": str(error)})
        self._known[image] = record

    def forget(self, image: str) -> None:
        """The image is gone."""
        self._known.pop(image, None)
        with contextlib.suppress(OSError):
            self._path(image).unlink()

    def _read(self, image: str) -> Record | None:
        if image in self._known:
            return self._known[image]
        try:
            content = self._path(image).read_bytes()
        except FileNotFoundError:
            return None
        record = self._known[image] = msgspec.json.decode(content, type=Record)
        return record

    def _intent(self, name: str) -> Path:
        return self._directory / "pulling" / hashlib.sha256(name.encode()).hexdigest()

    def _path(self, image: str) -> Path:
        return self._directory / f"{hashlib.sha256(image.encode()).hexdigest()}.json"
