"""Recipes of distillation, a file each: what a light model learns from a teacher, without labels."""
