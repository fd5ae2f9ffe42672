"""Automatic prompters: mask proposals for all objects of an image, without prompts by a user."""
