"""Models as graphs for other runtimes, and those runtimes."""
