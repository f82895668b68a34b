"""What becomes of what is said about objects: repeats, similar things, too much."""

from __future__ import annotations

from minikube_py.control.correlate import Correlated, Correlator, Said


def said(message: str, at: float = 0.0, *, name: str = "a", type_: str = "Normal", reason: str = "Said", **further: str) -> Said:
    return Said({"kind": "Pod", "namespace": "default", "name": name, "uid": f"uid-{name}", **further}, type_, reason, message, at)


def made(event: Correlated | None) -> tuple[str, str, int]:
    assert event is not None
    return event.name, event.message, event.times


def test_a_repeat_raises_the_count_until_it_is_forgotten() -> None:
    correlator = Correlator()
    assert made(correlator.correlate(said("one", 1.0))) == ("a.3b9aca00", "one", 1)
    assert made(correlator.correlate(said("one", 2.0))) == ("a.3b9aca00", "one", 2)
    late = correlator.correlate(said("one", 1200.0))
    assert made(late) == ("a.3b9aca00", "one", 3) and late is not None and late.first == 1.0
    correlator.correlate(said("another", 8000.0, name="b"))
    assert made(correlator.correlate(said("one", 8000.0)))[2] == 1, "forgotten by then"


def test_what_differs_in_anything_but_the_object_s_version_is_another_event() -> None:
    correlator = Correlator()
    others = [
        said("one"),
        said("two", 1.0),
        said("one", 2.0, name="b"),
        said("one", 3.0, type_="Warning"),
        said("one", 4.0, reason="Done"),
        said("one", 5.0, fieldPath="spec.containers{a}"),
        said("one", 6.0, uid="another"),
    ]
    assert len({made(correlator.correlate(one))[0] for one in others}) == len(others)
    assert made(correlator.correlate(said("one", 7.0, resourceVersion="8")))[2] == 2


def test_ten_different_messages_are_one_event_from_the_tenth_on() -> None:
    correlator = Correlator()
    first = [made(correlator.correlate(said(f"message {i}", float(i)))) for i in range(9)]
    assert len({name for name, _, _ in first}) == 9 and {count for _, _, count in first} == {1}
    combined = [made(correlator.correlate(said(f"message {i}", float(i)))) for i in range(9, 12)]
    assert [message for _, message, _ in combined] == [f"(combined from similar events): message {i}" for i in range(9, 12)]
    assert len({name for name, _, _ in combined}) == 1 and [count for _, _, count in combined] == [1, 2, 3]
    # ten minutes without any of them: the next one stands for itself
    assert made(correlator.correlate(said("message 20", 620.0)))[1:] == ("message 20", 1)


def test_too_much_about_one_object_is_left_unsaid_and_counts() -> None:
    correlator = Correlator()
    counts = [event.times if (event := correlator.correlate(said("again", i / 100))) else None for i in range(30)]
    assert counts == [*range(1, 26), *[None] * 5]
    assert made(correlator.correlate(said("other", 1.0, name="b")))[2] == 1
    assert made(correlator.correlate(said("again", 1.0, type_="Warning")))[2] == 1
    assert made(correlator.correlate(said("again", 301.0)))[2] == 31
    assert correlator.correlate(said("again", 302.0)) is None


def test_only_the_most_recent_are_remembered() -> None:
    correlator = Correlator(remembered=2)
    counts = [made(correlator.correlate(said("x", float(at), name=name)))[2] for at, name in enumerate("abacab")]
    assert counts == [1, 1, 2, 1, 3, 1]
