"""One framework's batch normalization said in another's words: arguments, weights, and what of it cannot be said."""
