from tagger.data.items import Item
from tagger.data.splits import Split
from tagger.training.inputs import RunItems, TrainingData

ITEMS = [Item(str(n), f"title {n}", "", tag="fruit") for n in range(4)]
EXTRA = [Item("0", "of a further file", "", tag="metal")]


def test_a_part_of_a_run_is_in_the_order_of_its_positions(tiny_config):
    split = Split(train=[3, 0], validation=[], test=[2])
    run = RunItems(tiny_config(), ITEMS, ["fruit", "metal"], split, EXTRA, [])
    assert run.part(split.train) == [ITEMS[3], ITEMS[0]]
    assert run.part(split.validation) == []


def test_further_items_are_trained_on_and_held_out_ones_are_not():
    data = TrainingData(train=ITEMS[:2], validation=ITEMS[2:3], extra=EXTRA, held_out=ITEMS[3:])
    assert data.trained_on == [*ITEMS[:2], *EXTRA]
