"""Segmenters: from prompts to mask candidates on one image."""
