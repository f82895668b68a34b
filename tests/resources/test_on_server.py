"""Every kind on the real API server: created, read, printed, written again without a revision, deleted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from minikube_py.resources.registry import built_in
from tests.resources.examples import EXAMPLES
from tests.resources.values import obj
from tests.support.api import api_server

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def test_every_kind_lives_and_dies(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        for kind in (r for r in built_in() if r.stored):
            ref = kind.ref
            name = "10.43.0.9" if ref.plural == "ipaddresses" else "example"
            given: dict[str, Any] = obj(kind, name, **copy.deepcopy(EXAMPLES[ref.group, ref.plural]))
            collection = ref.path("default")
            created = await server.http("POST", collection, given)
            assert created.status == 201, (ref, created.body)
            stored = created.json
            got = await server.http("GET", f"{collection}/{name}")
            assert got.json == stored, ref
            again = await server.http("PUT", f"{collection}/{name}", stored)
            assert again.status == 200, (ref, again.body)
            assert again.json["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"], (ref, again.json, stored)
            table = await server.http("GET", collection, headers={"Accept": TABLE})
            assert table.json["kind"] == "Table" and any(name in map(str, row["cells"]) for row in table.json["rows"]), ref
            patched = await server.http(
                "PATCH", f"{collection}/{name}", {"metadata": {"labels": {"a": "b"}}}, content_type="application/merge-patch+json"
            )
            assert patched.status == 200 and patched.json["metadata"]["labels"]["a"] == "b", (ref, patched.body)
            gone = await server.http("DELETE", f"{collection}/{name}")
            assert gone.status in (200, 202), (ref, gone.body)
