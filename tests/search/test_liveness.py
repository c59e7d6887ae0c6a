import os
import socket

import pytest

from tagger.search.liveness import _lock_file, forget, lives, named_worker


def test_a_worker_lives_as_long_as_it_says_so() -> None:
    with named_worker() as name:
        assert name.startswith(f"{socket.gethostname()}:{os.getpid()}:")
        assert lives(name) is True
    assert not _lock_file(name).exists()


def test_each_worker_has_a_name_of_its_own(this_worker: str) -> None:
    with named_worker() as other:
        assert other != this_worker


def test_a_killed_worker_is_known_to_be_dead_until_it_is_forgotten(dead_worker: str) -> None:
    assert lives(dead_worker) is False
    assert lives(dead_worker) is False
    forget(dead_worker)
    assert lives(dead_worker) is None
    forget(dead_worker)


def test_the_number_of_a_dead_worker_may_be_that_of_another_process(dead_worker: str) -> None:
    host, number, token = dead_worker.split(":")
    again = f"{host}:{os.getpid()}:{token}"
    assert number != str(os.getpid())
    assert lives(again) is False


@pytest.mark.parametrize("name", ["elsewhere:{}:{}", "{2}:{0}:nothing-of-that-name", "{2}:{0}", ""])
def test_of_other_workers_nothing_is_known(this_worker: str, name: str) -> None:
    host, number, token = this_worker.split(":")
    assert lives(name.format(number, token, host)) is None


def test_a_lock_that_may_not_be_asked_for_says_nothing(
    this_worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("tagger.search.liveness.FileLock", refuse)
    assert lives(this_worker) is None


def test_a_worker_that_fails_is_known_to_be_dead() -> None:
    with pytest.raises(ZeroDivisionError), named_worker() as name:
        raise ZeroDivisionError
    assert lives(name) is False
    forget(name)
