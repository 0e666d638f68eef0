"""One page of HTML that shows a model and runs it."""
