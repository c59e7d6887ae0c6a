"""Decides whether a new run takes an old one's place: stages, tests at every look, stop rules."""
