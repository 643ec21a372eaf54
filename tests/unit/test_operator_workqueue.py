"""The work queue: every key once, never by two workers, delayed adds on the loop's own clock."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_operator.workqueue import WorkQueue
from tests.unit.fake_clock import run_at_once

Story = Callable[[WorkQueue[str]], Awaitable[None]]


def tell(story: Story) -> None:
    async def told() -> None:
        await story(WorkQueue())

    run_at_once(told())


async def taken(queue: WorkQueue[str]) -> list[str]:
    """Every key that can be had now, in order; all given back."""
    keys = []
    while True:
        try:
            async with asyncio.timeout(0.001):
                keys.append(await queue.get())
        except TimeoutError:
            for key in keys:
                queue.done(key)
            return keys


def test_keys_come_in_the_order_of_their_first_add_and_once() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        for key in "abacab":
            queue.add(key)
        assert len(queue) == 3
        assert await taken(queue) == ["a", "b", "c"]
        assert len(queue) == 0

    tell(story)


def test_a_key_that_is_added_while_it_is_worked_is_worked_once_more_and_never_by_two() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        queue.add("b")
        assert await queue.get() == "b", "a is being worked"
        assert await taken(queue) == []
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert await taken(queue) == []

    tell(story)


def test_a_worker_that_waits_is_woken() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        for key in "abc":
            queue.add(key)
        assert sorted(await asyncio.gather(*waiting)) == ["a", "b", "c"]

    tell(story)


def test_a_worker_that_waits_is_woken_by_done_too() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await queue.get()
        queue.add("a")
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.done("a")
        assert await waiting == "a"

    tell(story)


def test_a_delayed_add_comes_in_its_time() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        begun = asyncio.get_running_loop().time()
        queue.add_after("a", 30)
        assert await taken(queue) == []
        assert await queue.get() == "a"
        assert asyncio.get_running_loop().time() - begun == pytest.approx(30, abs=0.1)

    tell(story)


@pytest.mark.parametrize(("delays", "want_after"), [((30, 5), 5), ((5, 30), 30), ((30, 0), 0), ((30, -1), 0)])
def test_of_several_delays_the_newest_counts(delays: tuple[float, ...], want_after: float) -> None:
    async def story(queue: WorkQueue[str]) -> None:
        begun = asyncio.get_running_loop().time()
        for delay in delays:
            queue.add_after("a", delay)
        await queue.get()
        assert asyncio.get_running_loop().time() - begun == pytest.approx(want_after, abs=0.1)
        queue.done("a")
        await asyncio.sleep(100)
        assert await taken(queue) == []

    tell(story)


def test_a_delay_that_is_forgotten_never_comes() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        queue.add_after("a", 5)
        queue.forget("a")
        queue.forget("a")
        await asyncio.sleep(100)
        assert await taken(queue) == []

    tell(story)


def test_a_delay_that_comes_while_its_key_is_worked_waits_for_its_turn() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await queue.get()
        queue.add_after("a", 5)
        await asyncio.sleep(10)
        assert await taken(queue) == []
        queue.done("a")
        assert await taken(queue) == ["a"]

    tell(story)


def test_the_longest_wait_is_told() -> None:
    async def story(queue: WorkQueue[str]) -> None:
        assert queue.oldest_wait() == 0
        queue.add("a")
        await asyncio.sleep(7)
        queue.add("b")
        await asyncio.sleep(2)
        assert queue.oldest_wait() == pytest.approx(9, abs=0.1)
        await queue.get()
        assert queue.oldest_wait() == pytest.approx(2, abs=0.1)

    tell(story)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=20), st.integers(1, 4))
def test_many_workers_never_share_a_key_and_the_last_add_is_always_worked(
    adds: list[tuple[str, int]], workers: int
) -> None:
    async def story(queue: WorkQueue[str]) -> None:
        active: set[str] = set()
        last_add: dict[str, float] = {}
        last_get: dict[str, float] = {}
        clock = asyncio.get_running_loop().time

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in active
                active.add(key)
                last_get[key] = clock()
                await asyncio.sleep(2)
                active.remove(key)
                queue.done(key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for _ in range(workers)]
            for key, pause in adds:
                queue.add(key)
                last_add[key] = clock()
                await asyncio.sleep(pause)
            await asyncio.sleep(100)
            for task in tasks:
                task.cancel()
        assert all(last_get[key] >= added for key, added in last_add.items())

    tell(story)
