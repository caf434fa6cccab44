"""Check a user's component against ours: what fails first, and which mistake explains it."""
