import asyncio

import pytest
from sqlalchemy import Connection, func, select

from tagger.service.bodies import ItemIn
from tagger.service.events import append
from tagger.service.refusals import Refusal
from tagger.service.service import Service
from tagger.service.tables import EVENT


def count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(EVENT)) or 0


def test_what_was_written_is_read(service: Service) -> None:
    async def work() -> int:
        await service.write(
            lambda connection: append(connection, "reported", at=1, actor="us", data={})
        )
        return await service.read(count)

    assert asyncio.run(work()) == 1


def test_a_text_is_cut_before_it_is_read_and_its_answer_says_so(service: Service) -> None:
    most = service.config.limits.text_characters
    long = ItemIn(title=" " * most + "apple " + "iron " * most)
    short = ItemIn(title="apple")
    one, two = asyncio.run(service.classify([long, short]))
    assert (one.published, two.published) == ("metal", "fruit")
    assert (service.truncated(long), service.truncated(short)) == (True, False)


@pytest.mark.parametrize("differing", [None, ["a row differs"]])
def test_nothing_is_classified_before_the_stored_rows_were_answered(
    service: Service, differing: list[str] | None
) -> None:
    service.differing = differing
    with pytest.raises(Refusal) as caught:
        asyncio.run(service.classify([ItemIn(title="apple")]))
    assert caught.value.status == 503


def test_a_dead_thread_is_named_and_refuses_work(service: Service) -> None:
    assert service.dead == []
    service.writer.stop()
    assert service.dead == ["writer"]
    with pytest.raises(Refusal, match="writer") as caught:
        asyncio.run(service.write(count))
    assert caught.value.status == 503


def test_tags_and_numbers_of_items_are_checked(service: Service) -> None:
    service.check_tag(None)
    service.check_tag("fruit")
    with pytest.raises(Refusal, match="'mlops' is no tag here: fruit, metal, weather"):
        service.check_tag("mlops")
    service.check_count([ItemIn(title="a")] * 8)
    with pytest.raises(Refusal, match="at most 8"):
        service.check_count([ItemIn(title="a")] * 9)
