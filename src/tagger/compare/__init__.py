"""Comparisons of approaches, few labels and sources on the same folds."""
