"""Fine-tune, evaluate and serve small text classifiers that file items under approved tags."""
