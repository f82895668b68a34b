"""Which images go."""

from __future__ import annotations

from minikube_py.kubelet import imagegc
from minikube_py.kubelet.imagegc import Image, Limits, Record

LIMITS = Limits(85, 80, 120.0)
IMAGES = [Image("a", 10), Image("b", 20), Image("c", 30), Image("pause", 1, pinned=True)]


def test_nothing_is_freed_below_the_high_threshold_and_down_to_the_low_one_above_it() -> None:
    assert imagegc.amount_to_free(available=16, capacity=100, limits=LIMITS) == 0
    assert imagegc.amount_to_free(available=15, capacity=100, limits=LIMITS) == 5
    assert imagegc.amount_to_free(available=0, capacity=100, limits=LIMITS) == 20
    assert imagegc.amount_to_free(available=0, capacity=0, limits=LIMITS) == 0


def test_what_was_used_longest_ago_goes_first_and_what_is_used_pinned_or_new_stays() -> None:
    records = imagegc.track({}, IMAGES, {"b", "c"}, 0.0)
    records = imagegc.track(records, IMAGES, {"c"}, 1000.0)
    assert records["b"] == Record(0.0, 0.0) and records["c"].last_used == 1000.0
    records["b"] = records["b"]._replace(last_used=500.0)
    free = imagegc.candidates(IMAGES, records, {"c"})
    assert [image.id for image in free] == ["a", "b"]
    assert [i.id for i in imagegc.choose(free, records, 5, LIMITS, 1000.0)] == ["a"]
    assert [i.id for i in imagegc.choose(free, records, 11, LIMITS, 1000.0)] == ["a", "b"]
    assert [i.id for i in imagegc.choose(free, records, None, LIMITS, 1000.0)] == ["a", "b"]
    assert imagegc.choose(free, records, None, LIMITS, 119.0) == []


def test_an_image_that_is_gone_is_forgotten_and_counts_as_new_when_it_comes_back() -> None:
    records = imagegc.track({}, IMAGES, (), 0.0)
    assert "a" not in (gone := imagegc.track(records, IMAGES[1:], (), 10.0))
    assert imagegc.track(gone, IMAGES, (), 20.0)["a"].first_seen == 20.0


def test_a_maximum_age_counts_from_the_last_use_but_not_from_before_the_agent() -> None:
    limits = LIMITS._replace(maximum_age=3600.0)
    records = {"a": Record(0.0, 100.0), "b": Record(0.0, 3000.0)}
    free = [Image("a", 1), Image("b", 1)]
    assert imagegc.outdated(free, records, LIMITS, 0.0, 1e9) == []
    assert imagegc.outdated(free, records, limits, 0.0, 3600.0) == []
    assert [i.id for i in imagegc.outdated(free, records, limits, 0.0, 3701.0)] == ["a"]


def test_the_event_says_how_full_the_disk_is() -> None:
    assert imagegc.shortfall_message(10 << 30, 100 << 30, 12).startswith(
        "Insufficient free disk space on the node's image filesystem (90% of 100.0 GiB used). "
        "Failed to free sufficient space by deleting unused images (freed 12 bytes)."
    )
