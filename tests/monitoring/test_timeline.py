from tagger.monitoring.timeline import MOST, Timeline


def test_a_long_stream_has_longer_stretches_and_loses_no_row() -> None:
    timeline = Timeline()
    rows = 25 * MOST * 2 + 7
    for row in range(1, rows + 1):
        stretch = timeline.stretch(row, f"day {row}", tags=2)
        stretch.rows += 1
        stretch.tags[row % 2] += 1
        stretch.evidence = [float(row)]
    assert timeline.step == 100
    assert len(timeline.stretches) <= MOST
    assert sum(one.rows for one in timeline.stretches) == rows
    assert sum(sum(one.tags) for one in timeline.stretches) == rows
    assert [one.first_row for one in timeline.stretches[:2]] == [1, 101]
    assert timeline.stretches[1].first_date == "day 101"
    assert timeline.stretches[0].evidence == [100.0]
    assert timeline.stretches[-1].evidence == [float(rows)]
