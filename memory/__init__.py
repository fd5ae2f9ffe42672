"""What a tracker remembers of past frames, one method a file."""
