from tagger.monitoring.timeline import MOST, Stretch, Timeline


def test_a_long_stream_has_longer_stretches_and_loses_no_row() -> None:
    timeline = Timeline()
    rows = 25 * MOST * 2 + 7
    for row in range(1, rows + 1):
        tags, evidence = [row % 2, 1 - row % 2], float(row % 90)
        timeline.add(
            Stretch(
                first_row=row, first_date=f"day {row}", confidence=0.5, tags=tags,
                evidence=[evidence], highest=evidence,
            )
        )  # fmt: skip
    assert timeline.step == 100
    assert len(timeline.stretches) <= MOST
    assert sum(one.rows for one in timeline.stretches) == rows
    assert sum(sum(one.tags) for one in timeline.stretches) == rows
    assert [one.first_row for one in timeline.stretches[:2]] == [1, 101]
    assert timeline.stretches[1].first_date == "day 101"
    first, last = timeline.stretches[0], timeline.stretches[-1]
    assert (first.confidence, first.evidence, first.highest) == (50.0, [10.0], 89.0)
    assert last.evidence == [float(rows % 90)]
