"""Questions and right answers as files that need no framework and no Python, and answers laid beside them judged."""
