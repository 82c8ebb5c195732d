"""One file per framework: its implementations under test, each with its statement. Imported by workers, by path."""
