"""Out-of-fold predictions: what models predict of labelled items that they did not see."""
