"""The budget: what is spent never exceeds it, whatever runs side by side, and nobody waits for what cannot come."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewrun_api.allowance import Allowance
from crewrun_runner.budget import LEAST_ANSWER, Amount, Caps, Need, No, answer_that_fits, exceeded
from crewrun_runner.calls import Charge
from crewrun_runner.ledger import BudgetExceeded, Ledger, Stopping, Ticket
from crewrun_runner.tokens import Tokens

LATER, NEVER = No.LATER, No.NEVER
NOTHING = Amount()


def need(prompt: int = 100, answer: int = 1000, price: int = 0, limitable: bool = True) -> Need:
    """`price` is micro-USD for a token, of the prompt or the answer."""
    return Need(prompt, answer, lambda tokens: price * (prompt + tokens), limitable)


NO_CAP = Caps()
FITS: dict[str, tuple[Caps, Amount, Amount, Need, int | No]] = {
    "no budget": (NO_CAP, Amount(99, 10**9, 10**9), NOTHING, need(), 1000),
    "requests: one is left": (Caps(requests=3), Amount(2), NOTHING, need(), 1000),
    "requests: none is left": (Caps(requests=3), Amount(3), NOTHING, need(), NEVER),
    "requests: another one has the last": (Caps(requests=3), Amount(2), Amount(1), need(), LATER),
    "requests: spent, whatever others hold": (Caps(requests=3), Amount(3), Amount(1), need(), NEVER),
    "requests: earlier attempts had them": (Caps(requests=3, before=Amount(3)), NOTHING, NOTHING, need(), NEVER),
    "tokens: all fit": (Caps(tokens=1100), NOTHING, NOTHING, need(), 1000),
    "tokens: the answer is limited to what is left": (Caps(tokens=1099), NOTHING, NOTHING, need(), 999),
    "tokens: what was spent is gone": (Caps(tokens=2000), Amount(1, 1200), NOTHING, need(), 700),
    "tokens: what is held is not given twice": (Caps(tokens=2000), NOTHING, Amount(1, 1200), need(), 700),
    "tokens: earlier attempts had some": (Caps(tokens=2000, before=Amount(4, 1200)), NOTHING, NOTHING, need(), 700),
    "tokens: the least answer": (Caps(tokens=100 + LEAST_ANSWER), NOTHING, NOTHING, need(), LEAST_ANSWER),
    "tokens: less than that": (Caps(tokens=99 + LEAST_ANSWER), NOTHING, NOTHING, need(), NEVER),
    "tokens: an answer that wants less": (Caps(tokens=110), NOTHING, NOTHING, need(answer=10), 10),
    "tokens: and does not get it": (Caps(tokens=109), NOTHING, NOTHING, need(answer=10), NEVER),
    "tokens: an answer of nothing": (Caps(tokens=100), NOTHING, NOTHING, need(answer=0), 0),
    "tokens: the prompt alone is too long": (Caps(tokens=99), NOTHING, NOTHING, need(answer=0), NEVER),
    "tokens: others may give back enough": (Caps(tokens=1100), NOTHING, Amount(1, 900), need(), LATER),
    "tokens: others cannot give back enough": (Caps(tokens=1100), Amount(1, 900), Amount(1, 50), need(), NEVER),
    "tokens: what cannot be limited fits": (Caps(tokens=1100), NOTHING, NOTHING, need(limitable=False), 1000),
    "tokens: or not": (Caps(tokens=1099), NOTHING, NOTHING, need(limitable=False), NEVER),
    "tokens: or later": (Caps(tokens=1100), NOTHING, Amount(1, 1), need(limitable=False), LATER),
    "tokens: nonsense was spent": (Caps(tokens=1100), Amount(1, 10**12), NOTHING, need(), NEVER),
    "USD: all fit": (Caps(micro=2200), NOTHING, NOTHING, need(price=2), 1000),
    "USD: the answer is limited to what is left": (Caps(micro=2199), NOTHING, NOTHING, need(price=2), 999),
    "USD: what was spent is gone": (Caps(micro=3000), Amount(1, 0, 1400), NOTHING, need(price=2), 700),
    "USD: what is held is not given twice": (Caps(micro=3000), NOTHING, Amount(1, 0, 1400), need(price=2), 700),
    "USD: earlier attempts had some": (
        Caps(micro=3000, before=Amount(1, 9, 1400)), NOTHING, NOTHING, need(price=2), 700
    ),
    "USD: the prompt alone costs too much": (Caps(micro=199), NOTHING, NOTHING, need(price=2), NEVER),
    "USD: and that is all that is asked for": (Caps(micro=199), NOTHING, NOTHING, need(answer=0, price=2), NEVER),
    "USD: the prompt alone": (Caps(micro=200), NOTHING, NOTHING, need(answer=0, price=2), 0),
    "USD: the prompt and no answer": (Caps(micro=200), NOTHING, NOTHING, need(price=2), NEVER),
    "USD: the least answer": (Caps(micro=2 * (100 + LEAST_ANSWER)), NOTHING, NOTHING, need(price=2), LEAST_ANSWER),
    "USD: less than that": (Caps(micro=2 * (100 + LEAST_ANSWER) - 1), NOTHING, NOTHING, need(price=2), NEVER),
    "USD: what costs nothing": (Caps(micro=1), Amount(0, 0, 1), NOTHING, need(), 1000),
    "USD: others may give it back": (Caps(micro=2200), NOTHING, Amount(1, 0, 2000), need(price=2), LATER),
    "USD: what cannot be limited": (Caps(micro=2199), NOTHING, NOTHING, need(price=2, limitable=False), NEVER),
    "together: tokens are the narrower": (Caps(9, 800, 9999), NOTHING, NOTHING, need(price=2), 700),
    "together: USD are the narrower": (Caps(9, 800, 1000), NOTHING, NOTHING, need(price=2), 400),
    "together: requests are": (Caps(1, 9999, 9999), Amount(1), NOTHING, need(price=2), NEVER),
    "together: one is held, the other is gone": (Caps(2, 800), Amount(1, 790), Amount(1), need(), NEVER),
}  # fmt: skip


@pytest.mark.parametrize(("caps", "spent", "held", "asked", "want_answer"), FITS.values(), ids=FITS)
def test_an_answer_may_be_as_long_as_what_is_left(
    caps: Caps, spent: Amount, held: Amount, asked: Need, want_answer: int | No
) -> None:
    assert answer_that_fits(caps, spent, held, asked) == want_answer


def test_the_longest_answer_is_found_whatever_steps_a_price_makes() -> None:
    dear = Need(10, 5000, lambda tokens: 100 + tokens // 7 + (1000 if tokens > 3000 else 0))
    for micro in (100, 140, 500, 700, 1200, 1599):
        found = answer_that_fits(Caps(micro=micro), NOTHING, NOTHING, dear)
        want = max(tokens for tokens in range(5001) if dear.most_cost(tokens) <= micro)
        assert found == (want if want >= LEAST_ANSWER else NEVER)


AMOUNTS = st.builds(Amount, st.integers(0, 5), st.integers(0, 5000), st.integers(0, 9000))
LIMITS = {"requests": st.integers(1, 6), "tokens": st.integers(1, 6000), "micro": st.integers(1, 12000)}
CAPS = st.builds(Caps, **{name: st.none() | limit for name, limit in LIMITS.items()}, before=AMOUNTS | st.just(NOTHING))
NEEDS = st.builds(need, st.integers(0, 900), st.integers(0, 3000), st.integers(0, 4), st.booleans())


def inside(caps: Caps, used: Amount) -> bool:
    pairs = ((caps.requests, used.requests), (caps.tokens, used.tokens), (caps.micro, used.micro))
    return all(cap is None or number <= cap for cap, number in pairs)


@settings(max_examples=300, deadline=None)
@given(CAPS, AMOUNTS, AMOUNTS, NEEDS)
def test_what_fits_is_within_every_cap_and_one_token_more_is_not(
    caps: Caps, spent: Amount, held: Amount, asked: Need
) -> None:
    found = answer_that_fits(caps, spent, held, asked)
    used = caps.before + spent
    if isinstance(found, No):
        alone = answer_that_fits(caps, spent, NOTHING, asked)
        assert (found is LATER) == (held != NOTHING and not isinstance(alone, No))
    else:
        assert 0 <= found <= asked.answer
        assert found == asked.answer or asked.limitable
        assert inside(caps, used + held + asked.amount(found))
        assert found == asked.answer or not inside(caps, used + held + asked.amount(found + 1))


def test_caps_are_the_budget_and_what_earlier_attempts_used() -> None:
    told = {
        "budget": {"maxCostUSD": "0.25", "maxTokens": 1000, "maxRequests": 7},
        "spent": {"requests": 2, "tokens": 30, "costUSD": "0.000004"},
    }
    assert Caps.of(Allowance.model_validate(told)) == Caps(7, 1000, 250_000, Amount(2, 30, 4))
    assert Caps.of(Allowance()) == Caps()
    assert [Caps(requests=1).any, Caps(tokens=1).any, Caps(micro=1).any, Caps(before=Amount(1)).any] == [
        True, True, True, False,
    ]  # fmt: skip


WORDS: dict[str, tuple[Caps, Amount, Need | None, int, str]] = {
    "requests": (
        Caps(requests=3, before=Amount(1)),
        Amount(2),
        need(),
        0,
        "spent 3 of maxRequests 3; the next LLM request may need 1 of maxRequests",
    ),
    "tokens": (
        Caps(tokens=1000, before=Amount(1, 400)),
        Amount(1, 500),
        need(),
        0,
        "spent 900 of maxTokens 1000; the next LLM request may need 356 of maxTokens",
    ),
    "an answer that wants less than the least": (
        Caps(tokens=1000),
        Amount(1, 950),
        need(answer=10),
        0,
        "spent 950 of maxTokens 1000; the next LLM request may need 110 of maxTokens",
    ),
    "USD": (
        Caps(micro=250_000),
        Amount(1, 0, 249_999),
        need(price=2),
        0,
        "spent 0.249999 of maxCostUSD 0.250000; the next LLM request may need 0.000712 of maxCostUSD",
    ),
    "several, of which one lacks": (
        Caps(9, 1000, 5),
        Amount(1, 1000, 3),
        need(),
        0,
        "spent 0.000003 of maxCostUSD 0.000005, 1000 of maxTokens 1000, 1 of maxRequests 9; "
        "the next LLM request may need 356 of maxTokens",
    ),
    "several, of which one would just do": (
        Caps(2, 1000),
        Amount(1, 1000),
        need(),
        0,
        "spent 1000 of maxTokens 1000, 1 of maxRequests 2; the next LLM request may need 356 of maxTokens",
    ),
    "several, of which two lack": (
        Caps(1, 1000),
        Amount(1, 1000),
        need(),
        0,
        "spent 1000 of maxTokens 1000, 1 of maxRequests 1; "
        "the next LLM request may need 356 of maxTokens and 1 of maxRequests",
    ),
    "an answer that was cut": (
        Caps(tokens=1000),
        Amount(1, 1000),
        None,
        700,
        "spent 1000 of maxTokens 1000; an answer was cut at its limit of 700 tokens",
    ),
}


@pytest.mark.parametrize(("caps", "spent", "asked", "cut_at", "want_words"), WORDS.values(), ids=WORDS)
def test_a_person_is_told_which_limit_it_was_and_what_to_do(
    caps: Caps, spent: Amount, asked: Need | None, cut_at: int, want_words: str
) -> None:
    want = f"{want_words}; raise the budget and set rerun to go on at the first unfinished task"
    assert exceeded(caps, spent, asked, cut_at) == want


def test_a_person_is_told_what_an_answer_lacks_that_cannot_be_limited() -> None:
    words = exceeded(Caps(tokens=1000), NOTHING, need(limitable=False), 0)
    assert "may need 1100 of maxTokens" in words


@dataclass
class Bill:
    """What a provider counts, on its own."""

    caps: Caps
    total: Amount = NOTHING

    def add(self, amount: Amount) -> None:
        self.total += amount
        assert inside(self.caps, self.caps.before + self.total)


def charge(asked: Need, price: int, prompt: int, answer: int) -> Charge:
    return Charge("1", "m", Tokens(prompt, 0, answer), price * (prompt + answer))


def a_ledger(caps: Caps) -> Ledger:
    made = Ledger()
    made.caps = caps
    return made


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_order_of_requests_and_answers_spends_more_than_the_budget(data: st.DataObject) -> None:
    before = data.draw(st.just(NOTHING) | st.builds(Amount, st.just(0), st.integers(0, 500), st.integers(0, 500)))
    caps = data.draw(st.builds(Caps, **{name: st.none() | limit for name, limit in LIMITS.items()}))
    caps = Caps(
        caps.requests, caps.tokens and caps.tokens + 500, caps.micro and caps.micro + 500, before
    )  # more than earlier attempts spent
    ledger, bill = a_ledger(caps), Bill(caps)
    open_requests: list[tuple[Ticket, Need, int]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        price = data.draw(st.integers(0, 4))
        prompt, answer = data.draw(st.integers(0, 900)), data.draw(st.integers(0, 3000))
        asked = need(prompt, answer, price, data.draw(st.booleans()))
        held = sum((each.amount(ticket.answer) for ticket, each, _ in open_requests), NOTHING)
        verdict = answer_that_fits(caps, bill.total, held, asked)
        if verdict is NEVER:
            with pytest.raises(BudgetExceeded, match="raise the budget"):
                ledger.reserve("1", "m", asked)
            with pytest.raises(Stopping):
                ledger.reserve("1", "m", need(0, 0))
            break
        if not isinstance(verdict, No):
            ticket = ledger.reserve("1", "m", asked)
            assert (ticket.answer, ticket.less) == (verdict, verdict < asked.answer)
            open_requests.append((ticket, asked, price))
        if open_requests and (verdict is LATER or data.draw(st.booleans())):
            ticket, its, its_price = open_requests.pop(data.draw(st.integers(0, len(open_requests) - 1)))
            end = data.draw(st.sampled_from(["settle", "settle", "lose", "release"]))
            if end == "settle":
                used = data.draw(st.integers(0, its.prompt)), data.draw(st.integers(0, ticket.answer))
                bill.add(Amount(1, sum(used), its_price * sum(used)))
                ledger.settle(ticket, charge(its, its_price, *used))
            elif end == "lose":
                bill.add(its.amount(ticket.answer))
                ledger.lose(ticket)
            else:
                ledger.release(ticket)
    for ticket, its, _ in open_requests:  # those that are open now may use all that they were given
        bill.add(its.amount(ticket.answer))
        ledger.lose(ticket)
    usage = ledger.usage()
    assert Amount(
        usage.requests + usage.reserved_requests,
        usage.total_tokens + usage.reserved_tokens,
        usage.cost_usd + usage.reserved_cost_usd,
    ) == bill.total  # fmt: skip


def crew(ledger: Ledger, bill: Bill, lock: threading.Lock, seed: int, requests: int) -> None:
    """Requests in turn, until the run ends."""
    chance = random.Random(seed)
    for _ in range(requests):
        price = chance.choice([0, 1, 3])
        asked = need(chance.randrange(200), chance.randrange(1500), price, chance.random() < 0.8)
        try:
            ticket = ledger.reserve("1", "m", asked)
        except (BudgetExceeded, Stopping):
            return
        end = chance.random()
        if end < 0.6:
            used = chance.randint(0, asked.prompt), chance.randint(0, ticket.answer)
            with lock:
                bill.total += Amount(1, sum(used), price * sum(used))
            ledger.settle(ticket, charge(asked, price, *used))
        elif end < 0.8:
            with lock:
                bill.total += asked.amount(ticket.answer)
            ledger.lose(ticket)
        else:
            ledger.release(ticket)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "caps",
    [
        Caps(requests=20),
        Caps(tokens=9000),
        Caps(micro=12_000),
        Caps(30, 15_000, 20_000, Amount(3, 2000, 1000)),
        Caps(),
    ],
    ids=["requests", "tokens", "USD", "all", "none"],
)
def test_requests_side_by_side_spend_no_more_and_all_come_to_an_end(caps: Caps, seed: int) -> None:
    ledger, bill, lock = a_ledger(caps), Bill(caps), threading.Lock()
    threads = [
        threading.Thread(target=crew, args=[ledger, bill, lock, 100 * seed + number, 40], daemon=True)
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not [thread for thread in threads if thread.is_alive()]
    assert ledger.calls_in_flight == 0
    assert inside(caps, caps.before + bill.total)
    usage = ledger.usage()
    assert usage.total_tokens + usage.reserved_tokens == bill.total.tokens
    assert usage.cost_usd + usage.reserved_cost_usd == bill.total.micro
    assert bool(ledger.budget_exceeded) == ledger.closed == caps.any


USED_LITTLE = Charge("1", "m", Tokens(10, 0, 10), 0)
USED_MUCH = Charge("1", "m", Tokens(100, 0, 900), 0)
#: What others do while a request waits, and how it ends for that request.
WAKES: dict[str, tuple[Callable[[Ledger, Ticket], None], str]] = {
    "the other one was not made": (lambda ledger, ticket: ledger.release(ticket), "made"),
    "the other one used little": (lambda ledger, ticket: ledger.settle(ticket, USED_LITTLE), "made"),
    "the other one used much": (lambda ledger, ticket: ledger.settle(ticket, USED_MUCH), "BudgetExceeded"),
    "the other one was lost": (lambda ledger, ticket: ledger.lose(ticket), "BudgetExceeded"),
    "an answer was cut": (lambda ledger, ticket: ledger.cut(ticket), "Stopping"),
    "the run is told to stop": (lambda ledger, ticket: ledger.close(), "Stopping"),
    "another one finds the budget exceeded": (lambda ledger, ticket: never(ledger), "Stopping"),
}


def never(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded):
        ledger.reserve("2", "m", need(prompt=10**6))


@pytest.mark.parametrize(("wake", "want_end"), WAKES.values(), ids=WAKES)
@pytest.mark.parametrize("waiting", [1, 3])
def test_a_request_that_waits_is_woken(wake: Callable[[Ledger, Ticket], None], want_end: str, waiting: int) -> None:
    ledger = a_ledger(Caps(tokens=1100))
    first = ledger.reserve("1", "m", need())
    asleep, ends = threading.Semaphore(0), []
    wait = ledger._freed.wait

    def told_wait(timeout: float | None = None) -> bool:
        asleep.release()
        return wait(timeout)

    ledger._freed.wait = told_wait  # type: ignore[method-assign]

    def ask() -> None:
        try:
            ticket = ledger.reserve("2", "m", need(prompt=50, answer=200))
        except (BudgetExceeded, Stopping) as error:
            ends.append(type(error).__name__)
        else:
            ends.append("made")
            ledger.release(ticket)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(waiting)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert asleep.acquire(timeout=10)
    assert ends == []
    wake(ledger, first)
    for thread in threads:
        thread.join(10)
    assert not [thread for thread in threads if thread.is_alive()]
    # The first to find the budget exceeded says so, and whoever comes later is stopped.
    want_ends = (
        ["BudgetExceeded"] + ["Stopping"] * (waiting - 1) if want_end == "BudgetExceeded" else [want_end] * waiting
    )
    assert sorted(ends) == want_ends


def test_a_request_that_fits_goes_before_one_that_waits_for_more() -> None:
    ledger, asleep = a_ledger(Caps(tokens=1000)), threading.Semaphore(0)
    one, other = (ledger.reserve("1", "m", need(0, 500)) for _ in range(2))
    wait = ledger._freed.wait

    def told_wait(timeout: float | None = None) -> bool:
        asleep.release()
        return wait(timeout)

    ledger._freed.wait = told_wait  # type: ignore[method-assign]
    large, small = (
        threading.Thread(target=ledger.reserve, args=["2", "m", need(0, tokens, limitable=False)], daemon=True)
        for tokens in (600, 400)
    )
    for thread in (large, small):
        thread.start()
        assert asleep.acquire(timeout=10)
    ledger.release(one)
    small.join(10)
    assert large.is_alive() and not small.is_alive()
    ledger.release(other)
    large.join(10)
    assert not large.is_alive()
