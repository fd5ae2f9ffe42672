"""Automatic prompters: they find the objects of an image without being told where they are."""
