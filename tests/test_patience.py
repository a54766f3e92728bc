"""How often a server is asked, how long is waited in between, and what errors say: without any server."""

import time

import pytest

from omnimemory.errors import ModelServerError
from omnimemory.model_servers.exchange import Answer, Call, Deadline, NoAnswerError, Pause
from omnimemory.model_servers.patience import BadAnswerError, Patience, RefusedError, detail, persist, refusal

CALL = Call("GET", "/")
GOOD = Answer(200, {}, b"good")
BUSY = Answer(503, {}, b"")


def play(answers, read=lambda answer: answer.body):
    """Give these answers (or raise them) one after the other; return the result or the error, and all pauses."""
    steps, pauses, left = persist(CALL, read, Patience(), origin="http://here"), [], list(answers)
    try:
        ask = next(steps)
        while True:
            if isinstance(ask, Pause):
                pauses.append(ask.seconds)
                ask = steps.send(None)
            else:
                answer = left.pop(0)
                ask = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as end:
        return end.value, pauses
    except ModelServerError as error:
        return error, pauses


def test_a_good_answer_needs_no_pause():
    assert play([GOOD]) == (b"good", [])


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again_with_growing_pauses(status):
    result, pauses = play([Answer(status, {}, b"")] * 3 + [GOOD])
    assert result == b"good"
    assert [round(pause / expected, 9) for pause, expected in zip(pauses, (0.2, 0.8, 3.2), strict=True)] == [
        pytest.approx(1, abs=0.25)
    ] * 3


def test_pauses_differ_so_that_clients_do_not_come_back_together():
    assert len({Patience().pause(1) for _ in range(50)}) > 40


def test_pauses_have_an_end():
    assert Patience(longest=5).pause(20) <= 5 * 1.25


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 413, 422, 499, 501])
def test_what_will_not_pass_is_not_asked_again(status):
    result, pauses = play([Answer(status, {}, b"")])
    assert isinstance(result, RefusedError)
    assert (result.status, pauses) == (status, [])


def test_patience_has_an_end():
    result, pauses = play([BUSY] * 4)
    assert (result.status, len(pauses)) == (503, 3)


@pytest.mark.parametrize(("reached", "pauses"), [(True, 3), (False, 1)])
def test_nobody_listening_is_given_up_sooner_than_a_broken_connection(reached, pauses):
    result, waited = play([NoAnswerError("gone", reached=reached)] * 4)
    assert (str(result), len(waited)) == ("gone", pauses)


def test_an_answer_that_makes_no_sense_is_asked_for_again():
    def read(answer):
        if answer.body != b"good":
            raise BadAnswerError("nonsense")
        return answer.body

    assert play([Answer(200, {}, b"bad"), GOOD], read=read)[0] == b"good"
    assert isinstance(play([Answer(200, {}, b"bad")] * 4, read=read)[0], BadAnswerError)


def in_an_hour():
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("0", 0, 0.25), ("-5", 0, 0.25), ("soon", 0, 0.25), ("1e3", 0, 0.25), ("", 0, 0.25)],
)
def test_a_server_is_asked_again_when_it_says(said, least, most):
    _, pauses = play([Answer(503, {"retry-after": said}, b""), GOOD])
    assert least <= pauses[0] <= most


@pytest.mark.parametrize("said", ["61", "99999999999999999999999", in_an_hour()], ids=["a-minute", "endless", "a-date"])
def test_a_server_that_wants_too_long_is_not_waited_for(said):
    result, pauses = play([Answer(503, {"retry-after": said}, b"")])
    assert "asked again in" in str(result)
    assert pauses == []


WORDS = {
    "ollama": (b'{"error": "model not found"}', "model not found"),
    "openai": (b'{"error": {"message": "no such model", "code": "404"}}', "no such model 404"),
    "openai-without-code": (b'{"error": {"message": "no such model", "code": null}}', "no such model"),
    "fastapi": (b'{"detail": "Not Found"}', "Not Found"),
    "fastapi-list": (b'{"detail": [{"loc": ["body"]}]}', "[{'loc': ['body']}]"),
    "message": (b'{"message": "no"}', "no"),
    "plain": (b"404 page not found", "404 page not found"),
    "lines": (b"one\n\n  two\x00", "one two\x00"),
    "nothing": (b"", ""),
    "not-utf-8": (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    "number": (b"5", "5"),
    "null": (b"null", ""),
}


@pytest.mark.parametrize(("body", "words"), WORDS.values(), ids=WORDS)
def test_what_an_error_says_in_words(body, words):
    assert detail(Answer(500, {}, body)) == words


def test_a_long_error_is_cut():
    assert len(detail(Answer(500, {}, b"x" * 100_000))) == 201


def test_what_a_server_says_of_a_key_is_not_repeated():
    assert "sk-12" not in str(refusal(Answer(401, {}, b'{"error": "bad key sk-12"}'), "http://here"))


def test_an_answer_may_have_so_many_bytes_and_no_more():
    deadline = Deadline("http://here", Call("GET", "/", most_bytes=10))
    deadline.take(b"12345")
    deadline.take(b"67890")
    assert deadline.body() == b"1234567890"
    with pytest.raises(NoAnswerError, match="more than 10 bytes"):
        deadline.take(b"x")


def test_an_answer_may_take_so_long_and_no_longer():
    deadline = Deadline("http://here", Call("GET", "/", seconds=0))
    with pytest.raises(NoAnswerError, match="did not finish"):
        deadline.take(b"x")
