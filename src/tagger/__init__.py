"""Fine-tunes, evaluates and serves small text classifiers that file items under approved tags."""
