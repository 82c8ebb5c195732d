"""The hunt: a search for cases that an implementation fails, each made small."""
