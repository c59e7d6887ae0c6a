from tagger.rollout.arms import arm_of, position_of

GROUPS = range(-2_000, 2_000)


def test_a_ramp_takes_no_item_from_its_arm() -> None:
    before: set[int] = set()
    for share in (0.0, 0.01, 0.05, 0.25, 0.5, 1.0):
        now = {group for group in GROUPS if arm_of("salt", group, share) == "new"}
        assert before <= now
        assert abs(len(now) / len(GROUPS) - share) < 0.03
        before = now
    assert len(before) == len(GROUPS)


def test_a_share_of_nothing_is_nobody_and_the_arm_is_a_matter_of_salt_and_group_alone() -> None:
    assert all(arm_of("salt", group, 0.0) == "old" for group in GROUPS)
    assert position_of("salt", 7) == position_of("salt", 7) != position_of("pepper", 7)
    assert position_of("salt", 7) == 0.5540126967474264  # kept items rely on it
