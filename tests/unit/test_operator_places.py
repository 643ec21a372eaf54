"""Who is next: first in, first out within a share, and the share with the fewest places first."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_operator.places import Places

UIDS = [f"uid-{number}" for number in range(12)]
SHARES = ["", "research", "sales"]


def admitted(places: Places, most: int = 99) -> list[str]:
    """Who is given a place, in order, while there are places."""
    order: list[str] = []
    while len(order) < most and (uid := places.first()) is not None:
        places.hold(uid, places.share_of(uid))
        order.append(uid)
    return order


ORDERS: dict[str, tuple[list[tuple[str, str, int]], list[str], list[str]]] = {
    "nobody": ([], [], []),
    "in the order of their time": ([("b", "", 2), ("a", "", 3), ("c", "", 1)], [], ["c", "b", "a"]),
    "of the same time by UID": ([("b", "", 1), ("a", "", 1)], [], ["a", "b"]),
    "shares take turns": (
        [("a1", "a", 1), ("a2", "a", 2), ("a3", "a", 3), ("b1", "b", 4), ("b2", "b", 5)],
        [],
        ["a1", "b1", "a2", "b2", "a3"],
    ),
    "a share that holds places waits for the others": (
        [("a1", "a", 1), ("b1", "b", 2), ("b2", "b", 3), ("b3", "b", 4)],
        ["a", "a"],
        ["b1", "b2", "a1", "b3"],
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_places_are_given(name: str) -> None:
    waiting, held, want_order = ORDERS[name]
    places = Places()
    for uid, share, time in waiting:
        places.wait(uid, share, time)
    for number, share in enumerate(held):
        places.hold(f"held-{number}", share)
    assert [places.ahead(uid) for uid in want_order] == [*range(len(want_order))]
    assert admitted(places) == want_order
    assert (places.waiting, places.holding) == (0, len(waiting) + len(held))


def test_who_waits_at_another_time_or_in_another_share_has_another_turn() -> None:
    places = Places()
    places.wait("a", "", 1)
    places.wait("b", "", 2)
    places.wait("a", "", 3)
    assert places.first() == "b"
    places.wait("b", "other", 2)
    places.hold("c", "other")
    assert places.first() == "a"


def test_a_share_that_nobody_is_in_is_forgotten() -> None:
    places = Places()
    for uid in UIDS:
        places.wait(uid, f"share of {uid}", 1)
        places.hold(uid, f"share of {uid}")
        places.remove(uid)
    assert not places._lines and not places._held and not places._turns


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "hold", "remove", "give"]),
        st.sampled_from(UIDS),
        st.sampled_from(SHARES),
        st.integers(0, 5),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(EVENTS)
def test_whatever_happened_the_least_loaded_share_is_next_and_positions_come_true(
    events: list[tuple[str, str, str, int]],
) -> None:
    places = Places()
    waiting: dict[str, tuple[str, int]] = {}
    holding: dict[str, str] = {}
    for event, uid, share, time in events:
        if event == "give":
            event, uid = "hold", places.first() or uid
            share = waiting.get(uid, (share, 0))[0]
        waiting.pop(uid, None)
        holding.pop(uid, None)
        if event == "wait":
            waiting[uid] = share, time
            places.wait(uid, share, time)
        elif event == "hold":
            holding[uid] = share
            places.hold(uid, share)
        else:
            places.remove(uid)
        held = Counter(holding.values())
        want_first = min(waiting, default=None, key=lambda uid: (held[waiting[uid][0]], *_order(uid, waiting)))
        assert places.first() == want_first
        assert (places.waiting, places.holding) == (len(waiting), len(holding))
    positions = {uid: places.ahead(uid) for uid in waiting}
    assert {uid: place for place, uid in enumerate(admitted(places))} == positions


def _order(uid: str, waiting: dict[str, tuple[str, int]]) -> tuple[int, str, str]:
    share, time = waiting[uid]
    return time, uid, share
