import csv

import numpy as np
import pytest

from tagger.data.items import Item
from tagger.data.tags import load_tags
from tagger.decision.calibrators import Unchanged
from tagger.decision.decider import PLAIN, Rule
from tagger.decision.policies import REVIEW, Threshold
from tagger.errors import UserError
from tagger.files import REPO_ROOT
from tagger.models.rules import RulesClassifier

TAGS = ("fruit", "metal", "weather")
TEXT = """
metal:                     # not in the order of the approved tags
  sure: [iron, stainless steel]
  patterns: ['\\balloy-?\\d+\\b', '\\b[A-Z]inc\\b']
  likely: [wire]
  against: [weather forecast]
fruit:
  sure: [apple, peach]
  likely: [sweet]
  against: [iron]
"""


def reads(text=TEXT, tags=TAGS):
    return RulesClassifier(tags, text, "my-rules.yaml")


def decide(rows):
    return PLAIN.apply(rows, None).tags


def points(title, description="", text=TEXT):
    return reads(text).points([Item("1", title, description)])[0].tolist()


@pytest.mark.parametrize(
    ("title", "description", "tag"),
    [
        ("An apple a day", "", "fruit"),
        ("Letters from my garden", "how a peach ripens", "fruit"),
        ("Stainless steel in the kitchen", "sweet and sour", "metal"),
        ("Alloy-12 under load", "", "metal"),
        ("A sweet apple", "on a wire", "fruit"),
    ],
)
def test_what_is_found_speaks_for_its_tag(title, description, tag):
    row = reads().predict_proba([Item("1", title, description)])[0]
    assert TAGS[row.argmax()] == tag
    assert decide(row[None]).tolist() == [TAGS.index(tag)]


def test_each_kind_counts_what_the_file_says_and_twice_in_the_title():
    assert points("-", "apple") == [3, 0, 0]
    assert points("apple") == [6, 0, 0]
    assert points("apple", "apple") == [9, 0, 0]
    assert points("-", "sweet") == [1, 0, 0]
    assert points("-", "alloy7") == [0, 3, 0]
    assert points("-", "iron") == [-2, 3, 0]
    assert points("weather forecast", "sweet wire") == [1, 1 - 4, 0]


def test_a_find_counts_once_a_field_however_often_it_is_there():
    assert points("-", "apple apple, and apple again") == points("-", "apple")


def test_words_are_whole_words_with_or_without_a_plural():
    assert points("-", "pineapple applesauce irons! Peaches, apples") == [-2 + 3 + 3, 3, 0]
    assert points("-", "pineapple wired environment") == [0, 0, 0]


@pytest.mark.parametrize(
    "found",
    [
        "STAINLESS STEEL",
        "stainless-steel",
        "stainless   steels",
        "stainless\n\tsteel",
        "ｓｔａｉｎｌｅｓｓ ｓｔｅｅｌ",  # full-width letters
        "(stainless steel)",
    ],
)
def test_case_spacing_hyphens_and_unicode_variants_make_no_difference(found):
    assert points("-", found) == [0, 3, 0]


def test_hyphens_in_the_file_make_no_difference_either():
    text = "fruit:\n  sure: [Passion-Fruit, crème brûlée]\n"
    for found in (
        "passion fruit",
        "passion-fruits",
        "CRÈME BRÛLÉE",
        "cre\u0300me bru\u0302le\u0301e",
    ):
        assert points("-", found, text) == [3, 0, 0], found


def test_signs_in_words_stand_for_themselves_and_in_patterns_for_what_they_do():
    text = "fruit:\n  sure: [c++, 'a.b']\n  patterns: ['x.z']\n"
    assert points("-", "written in C++ now", text) == [3, 0, 0]
    assert points("-", "axb", text) == [0, 0, 0]
    assert points("-", "a.b", text) == [3, 0, 0]
    assert points("-", "xyz", text) == [3, 0, 0]


def test_patterns_ignore_case_both_ways():
    assert points("-", "Zinc and zinc") == [0, 3, 0]


def test_probabilities_are_the_softmax_of_the_points():
    row = reads().predict_proba([Item("1", "", "sweet alloy1")])[0]
    expected = np.exp([1.0, 3.0, 0.0]) / np.exp([1.0, 3.0, 0.0]).sum()
    np.testing.assert_allclose(row, expected)


def test_where_nothing_is_found_the_rules_abstain_and_a_person_is_asked():
    strangers = [
        Item("1", "Knitting for beginners", "wool"),
        Item("2", "", ""),
        Item("3", "☔", ""),
    ]
    rows = reads().predict_proba(strangers)
    np.testing.assert_array_equal(rows, np.full((3, 3), rows[0, 0]))
    assert rows.sum(axis=1) == pytest.approx(1)
    for rule in (PLAIN, Rule(Unchanged(), Threshold([0.0, 0.0, 0.0]), None)):
        assert rule.apply(rows, None).tags.tolist() == [REVIEW] * 3


def test_where_two_tags_are_level_a_person_is_asked():
    rows = reads().predict_proba([Item("1", "", "sweet wire"), Item("2", "", "sweet sweet apple")])
    assert decide(rows).tolist() == [REVIEW, 0]


def test_much_that_speaks_against_all_tags_still_gives_numbers():
    words = ", ".join(f"word{number}" for number in range(250))
    text = "".join(f"{tag}:\n  against: [{words}]\n" for tag in TAGS)
    row = reads(text).predict_proba([Item("1", words, "")])[0]
    np.testing.assert_allclose(row, 1 / 3)


def test_each_item_is_judged_by_itself_in_the_order_given():
    items = [Item(str(n), f"{word} story", "") for n, word in enumerate(["iron", "wool", "apple"])]
    together = reads().predict_proba(items)
    np.testing.assert_array_equal(together, np.vstack([reads().predict_proba([i]) for i in items]))
    assert reads().predict_proba([]).shape == (0, 3)


def test_columns_are_in_the_order_of_the_approved_tags():
    item = [Item("1", "apple wire", "")]
    row = reads(tags=TAGS[::-1]).predict_proba(item)[0]
    np.testing.assert_array_equal(row[::-1], reads().predict_proba(item)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fruits:\n  sure: [apple]", ["'fruits' is no approved tag", "did you mean 'fruit'?"]),
        ("7:\n  sure: [apple]", ["7 is no approved tag"]),
        ("fruit:\n  shure: [apple]", ["fruit.shure: no such kind", "did you mean 'sure'?"]),
        ("fruit: apple", ["fruit: found 'apple', expected sure, likely, against, patterns"]),
        ("fruit:", ["fruit: found 'None', expected sure, likely, against, patterns"]),
        ("fruit: [apple]", ["fruit: found \"['apple']\", expected sure"]),
        ("fruit:\n  sure: apple", ["fruit.sure: found 'apple', expected a list"]),
        ("fruit:\n  sure: {apple: 3}", ["fruit.sure: found \"{'apple': 3}\", expected a list"]),
        ("fruit:\n  sure:", ["fruit.sure: found 'None', expected a list"]),
        ("fruit:\n  sure: [2]", ["fruit.sure: found 2, expected text"]),
        ("fruit:\n  likely: [yes]", ["fruit.likely: found True, expected text", "quote `yes`"]),
        ("fruit:\n  against: [a, '  ']", ["fruit.against: found '  ', expected text"]),
        ("fruit:\n  sure: [apple: 3]", ["fruit.sure: found {'apple': 3}, expected text"]),
        ("fruit:\n  patterns: ['ap(ple']", ["fruit.patterns: 'ap(ple' is no pattern", "missing )"]),
        ("fruit:\n  patterns: ['*apple']", ["fruit.patterns: '*apple' is no pattern"]),
        ("fruit: [", ["is not yaml", "line 2"]),
        ("fruit:\n\tsure: [apple]", ["is not yaml", "line 2"]),
        ("2020-13-45: [apple]", ["is not yaml", "month must be in 1..12"]),
        ("[" * 1500, ["is not yaml"]),
        ("", ["found 'None', expected tags with their rules"]),
        ("{}", ["found '{}', expected tags with their rules"]),
        ("- apple", ["found \"['apple']\", expected tags with their rules"]),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(text, says):
    with pytest.raises(UserError) as error:
        reads(text)
    for part in ("my-rules.yaml", *says):
        assert part in str(error.value)


def test_a_pattern_with_a_huge_repetition_is_named_too():
    with pytest.raises(UserError, match=r"fruit\.patterns"):
        reads("fruit:\n  patterns: ['a{99999999999}']")


def test_all_mistakes_are_listed_at_once():
    text = "fruit:\n  sure: [1, ok]\n  shure: [x]\nstone:\n  sure: [x]\nmetal:\n  patterns: ['(']\n"
    with pytest.raises(UserError) as error:
        reads(text)
    assert len(error.value.problems) == 4
    assert "data/rules.yaml" in error.value.hint


def test_a_tag_or_kind_that_is_given_twice_is_not_lost_silently():
    twice = "fruit:\n  sure: [apple]\nfruit:\n  sure: [peach]\n"
    try:
        found = reads(twice)
    except UserError as error:
        assert "fruit" in str(error)
    else:
        assert len(found.rules) == 2


def test_a_word_of_signs_alone_is_not_found_everywhere():
    try:
        found = reads("fruit:\n  sure: ['-']\n")
    except UserError as error:
        assert "fruit.sure" in str(error)
    else:
        assert found.points([Item("1", "Wool", "")]).tolist() == [[0, 0, 0]]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml.*no such file"):
        RulesClassifier.read(tmp_path / "absent.yaml", TAGS)
    with pytest.raises(UserError, match="that is a folder"):
        RulesClassifier.read(tmp_path, TAGS)
    (tmp_path / "latin.yaml").write_bytes("fruit:\n  sure: [pêche]\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml.*not UTF-8"):
        RulesClassifier.read(tmp_path / "latin.yaml", TAGS)


def test_what_an_editor_of_windows_writes_is_read(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode("utf-8-sig"))
    assert RulesClassifier.read(path, TAGS).rules == reads().rules


def test_saved_and_loaded_rules_answer_alike_and_stay_as_they_were_written(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(TEXT, encoding="utf-8")
    rules = RulesClassifier.read(path, TAGS)
    rules.save(tmp_path / "model")
    path.unlink()
    again = RulesClassifier.load(tmp_path / "model")
    items = [Item("1", "Sweet apples", "on a wire"), Item("2", "wool", ""), Item("3", "iron", "")]
    assert again.tags == TAGS
    np.testing.assert_array_equal(again.predict_proba(items), rules.predict_proba(items))
    assert "# not in the order" in (tmp_path / "model" / "rules.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shipped():
    tags = [tag.name for tag in load_tags(REPO_ROOT / "data" / "tags.yaml")]
    return RulesClassifier.read(REPO_ROOT / "data" / "rules.yaml", tags)


@pytest.mark.parametrize(
    ("title", "description", "tag"),
    [
        ("Object detection with YOLOv5", "Counting cars on traffic cameras.", "computer-vision"),
        ("A gentle look at U-Net", "Segmentation of cells in microscope images", "computer-vision"),
        ("StyleGAN explained", "", "computer-vision"),
        ("Deploying models with Kubernetes", "Docker, CI/CD and rollback", "mlops"),
        ("Experiment tracking for small teams", "with MLflow", "mlops"),
        ("Your first feature store", "", "mlops"),
        ("Fine-tuning BERT", "named entity recognition in Danish", "natural-language-processing"),
        ("Large Language Models from scratch", "", "natural-language-processing"),
        ("A chatbot for the town hall", "built with Rasa", "natural-language-processing"),
        ("Deep Q-Learning plays Atari", "reinforcement learning in a gym", "other"),
        ("Forecasting sales", "time series with Prophet", "other"),
        ("XGBoost on tabular data", "", "other"),
    ],
)
def test_the_shipped_rules_file_the_obvious_rightly(shipped, title, description, tag):
    row = shipped.predict_proba([Item("1", title, description)])
    decided = decide(row)[0]
    assert decided != REVIEW
    assert shipped.tags[decided] == tag


def test_the_shipped_rules_know_every_tag_and_are_silent_on_other_things(shipped):
    assert {rule.tag for rule in shipped.rules} == set(range(len(shipped.tags)))
    rows = shipped.predict_proba([Item("1", "Sourdough for beginners", "Flour, water, salt.")])
    assert decide(rows).tolist() == [REVIEW]


@pytest.mark.slow
def test_the_shipped_rules_are_worth_having_on_the_embedded_set(shipped):
    with (REPO_ROOT / "data" / "gold.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::4]
    items = [Item(row["id"], row["title"], row["description"]) for row in rows]
    decided = decide(shipped.predict_proba(items))
    answered = decided != REVIEW
    true = np.array([shipped.tags.index(row["tag"]) for row in rows])
    # A third of the set has few words on purpose: there the rules are right to abstain.
    assert answered.mean() > 0.6
    assert (decided[answered] == true[answered]).mean() > 0.8
