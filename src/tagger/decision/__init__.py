"""Turns probabilities into decisions: a tag, or a person is asked. See docs/decisions.md."""
