"""The model: the nouns of the suite as data, which every other room shares."""
