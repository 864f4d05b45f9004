from __future__ import annotations

import json

import pytest

from ssmd_connector.answers import Verdict, read_answer


@pytest.mark.parametrize(
    ("code", "err_code", "text"),
    [
        (503, 10077, "maximum bytes exceeded"),
        (503, 10023, "insufficient resources"),
        (500, 10047, "insufficient storage resources available"),
        (400, 10002, "resource limits exceeded for account"),
    ],
)
def test_whosever_bound_is_reached_it_is_not_about_the_message(code: int, err_code: int, text: str) -> None:
    error = {"code": code, "err_code": err_code, "description": text}
    answer = read_answer(None, json.dumps({"error": error, "stream": "DEV", "seq": 0}).encode(), "DEV")
    assert answer.verdict is Verdict.FULL
    assert not answer.verdict.is_about_the_message
    assert answer.text == f"{text} ({err_code})"
