"""Arrays of one's own, judged in one's own test: `expected`, `check` and `assert_conforms`."""
