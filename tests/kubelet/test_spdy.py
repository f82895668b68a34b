"""Frames of SPDY as clients make them, against another implementation of their header blocks: zlib and the draft's own check sum."""

from __future__ import annotations

import struct
import zlib

import pytest

from minikube_py.kubelet import spdy


def block(*headers: tuple[str, str]) -> bytes:
    return struct.pack(">I", len(headers)) + b"".join(struct.pack(">I", len(text)) + text.encode() for header in headers for text in header)


def body(packer: zlib._Compress, stream: int, *headers: tuple[str, str]) -> bytes:
    return struct.pack(">IIH", stream, 0, 0) + packer.compress(block(*headers)) + packer.flush(zlib.Z_SYNC_FLUSH)


def test_the_dictionary_is_the_drafts() -> None:
    assert zlib.adler32(spdy._DICTIONARY) == 0xE3C6A7C2


def test_streams_of_one_connection_are_read_one_after_the_other() -> None:
    packer, acceptor = zlib.compressobj(zdict=spdy._DICTIONARY), spdy.Acceptor()
    assert acceptor.opened(body(packer, 1, ("streamtype", "error"))) == (1, {"streamtype": "error"})
    assert acceptor.opened(body(packer, 3, ("streamtype", "stdin"), ("host", ""))) == (3, {"streamtype": "stdin", "host": ""})
    assert acceptor.opened(body(packer, 5)) == (5, {})
    head = spdy.head(acceptor.reply(5)[: spdy.HEAD])
    assert (head.kind, acceptor.reply(5)[8:12]) == (spdy.Kind.SYN_REPLY, b"\0\0\0\5")


def test_streams_without_a_dictionary_are_read_as_well() -> None:
    _, frame = spdy.Opener().open({"streamtype": "stdout"})
    assert spdy.Acceptor().opened(frame[spdy.HEAD :]) == (1, {"streamtype": "stdout"})


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0\0\0\1",
        struct.pack(">IIH", 1, 0, 0) + b"no zlib stream",
        struct.pack(">IIH", 1, 0, 0) + zlib.compress(struct.pack(">III", 1, 0xFFFFFFFF, 0)),
        struct.pack(">IIH", 1, 0, 0) + zlib.compress(struct.pack(">I", 0xFFFFFFFF) + bytes(1 << 24)),
        struct.pack(">IIH", 1, 0, 0) + zlib.compress(struct.pack(">II", 1, 2) + b"\xff\xff\0\0\0\0"),
    ],
)
def test_what_is_no_stream_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError):
        spdy.Acceptor().opened(bad)
