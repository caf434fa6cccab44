"""A stranger's component set beside ours: what fails first, and which mistake explains it."""
