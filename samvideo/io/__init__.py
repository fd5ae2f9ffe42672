"""Readers and writers of video, masks and tracks."""
