"""Reading frames and masks, writing videos and masks."""
