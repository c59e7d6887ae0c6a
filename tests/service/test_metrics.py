from tagger.service.metrics import Metrics


def test_requests_are_counted_and_gauges_asked_when_they_are_read() -> None:
    waiting = 3.0
    metrics = Metrics({"waiting": ("What waits.", lambda: waiting)})
    for _ in range(2):
        metrics.count("/v1/items", "POST", 200, 0.003)
    waiting = 4.0
    text = metrics.text()
    assert 'tagger_requests_total{method="POST",route="/v1/items",status="200"} 2.0' in text
    assert 'tagger_request_seconds_bucket{le="0.002",route="/v1/items"} 0.0' in text
    assert 'tagger_request_seconds_bucket{le="0.005",route="/v1/items"} 2.0' in text
    assert "tagger_waiting 4.0" in text
    assert "_created" not in text
