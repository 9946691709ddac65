"""What trials that trade the same forecasts share."""

from functools import partial

from tunetrade.optimize_money import once


def test_what_trials_share_is_made_once_and_the_least_used_put_away() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    shelf: dict[str, str] = {}
    found = [once(shelf, key, 2, partial(make, key)) for key in "abacab"]
    assert found == list("ABACAB")
    assert made == list("abcb")
