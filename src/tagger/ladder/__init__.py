"""Approaches side by side on the same folds: which is better, by how much, and is it luck?"""
