from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_common.errors import ConfigError
from ssmd_simulator import faults
from ssmd_simulator.faults import CATALOGUE, Fault, Planned, RandomFaults, Where

DRAWABLE = sorted(name for name, kind in CATALOGUE.items() if kind.drawn)
NEVER_DRAWN = frozenset(CATALOGUE) - frozenset(DRAWABLE)


@st.composite
def any_fault(draw: st.DrawFn) -> Fault:
    kind = draw(st.sampled_from(sorted(CATALOGUE.values(), key=lambda kind: kind.name)))
    if kind.default is None:
        return Fault(kind)
    return Fault(kind, draw(st.sampled_from([value for value in (kind.default, *kind.drawn) if value is not None])))


@settings(deadline=None)
@given(one=any_fault())
def test_a_fault_reads_as_it_is_written(one: Fault) -> None:
    assert faults.parse(str(one)) == Planned(one)


@settings(deadline=None)
@given(one=any_fault(), at_ms=st.integers(0, 10**7))
def test_a_fault_with_a_time_falls_due_once_at_that_time(one: Fault, at_ms: int) -> None:
    planned = faults.parse(f"{one}@{at_ms}ms")
    ((at_s, due),) = faults.schedule([planned])
    assert at_s == pytest.approx(at_ms / 1000)
    assert due == one


@pytest.mark.parametrize("text", ["close@every 10s", "close@every10s", "close@every:10", "close@every 10000ms"])
def test_a_fault_can_come_again_and_again(text: str) -> None:
    due = faults.schedule([faults.parse(text)])
    assert [at_s for at_s, _ in itertools.islice(due, 4)] == pytest.approx([10, 20, 30, 40])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clos", "'clos' is no fault (--list-faults names them all)"),
        ("close=999", "999 is no value for close"),
        ("close=5000", "5000 is no value for close"),
        ("reset=1", "reset takes no value"),
        ("missing-seq=0", "0 is no value for missing-seq"),
        ("missing-seq=1.2.3", "'1.2.3' is no number"),
        ("close@soon", "'soon' is no time"),
        ("close@every 1ms", "'1ms' is too short"),
        ("Close!", "'Close!' cannot be read"),
        ("", "'' cannot be read"),
    ],
)
def test_what_is_no_fault_is_a_config_error_that_says_why(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        faults.parse(text)
    assert said in str(caught.value)
    assert "--fault" in str(caught.value)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32), mean_ms=st.integers(10, 10**5), only=st.lists(st.sampled_from(DRAWABLE), max_size=4)
)
def test_faults_by_chance_follow_from_the_seed_and_come_in_order(seed: int, mean_ms: int, only: list[str]) -> None:
    plan = RandomFaults(mean_ms / 1000, seed, tuple(only))
    due = list(itertools.islice(faults.schedule([], plan), 200))
    assert due == list(itertools.islice(faults.schedule([], plan), 200))
    times = [at_s for at_s, _ in due]
    assert times == sorted(times)
    assert 0.8 < times[-1] / 200 / (mean_ms / 1000) < 1.2
    assert {one.kind.name for _, one in due} <= set(only or DRAWABLE)
    for _, one in due:
        assert one.value in one.kind.drawn or (one.kind.drawn == (None,) and one.value == (one.kind.default or 0))


def test_by_chance_comes_every_fault_in_time_but_those_a_client_may_rightly_give_up_at() -> None:
    due = itertools.islice(faults.schedule([], RandomFaults(1, seed=1)), 3000)
    assert {one.kind.name for _, one in due} == set(DRAWABLE)
    assert {"handshake-401", "handshake-403"} == NEVER_DRAWN


def test_another_seed_gives_another_schedule() -> None:
    one, other = (list(itertools.islice(faults.schedule([], RandomFaults(1, seed)), 20)) for seed in (1, 2))
    assert one != other


@settings(deadline=None)
@given(
    planned=st.lists(
        st.builds(
            Planned, any_fault(), st.floats(0, 100), st.one_of(st.none(), st.floats(0.01, 10, exclude_min=True))
        ),
        max_size=6,
    ),
    by_chance=st.one_of(st.none(), st.just(RandomFaults(3, 1))),
)
def test_all_that_is_planned_and_drawn_comes_in_one_order(
    planned: list[Planned], by_chance: RandomFaults | None
) -> None:
    due = list(itertools.islice(faults.schedule(planned, by_chance), 200))
    assert [at_s for at_s, _ in due] == sorted(at_s for at_s, _ in due)
    if len(due) < 200:
        assert sorted(str(one.fault) for one in planned) == sorted(str(one) for _, one in due)


@pytest.mark.parametrize(
    ("only", "but", "said"),
    [
        (("handshake-401",), frozenset(), "leaves no fault to draw"),
        (("error-25",), frozenset({"error-25"}), "leaves no fault to draw"),
        (("none-such",), frozenset(), "'none-such' is no fault"),
    ],
)
def test_a_choice_that_leaves_none_is_refused(only: tuple[str, ...], but: frozenset[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        faults.schedule([], RandomFaults(1, 1, only), but=but)


def test_every_fault_says_what_happens_and_what_its_value_is() -> None:
    for kind in CATALOGUE.values():
        assert kind.help
        assert (kind.default is None) == ("VALUE" not in kind.help)
        assert kind.where in Where
