"""The HTTP server of `samvideo serve`: many sessions, one video each, that share the models."""
