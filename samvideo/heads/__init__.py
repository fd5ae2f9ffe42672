"""From features and prompts to masks: prompt encoder, mask decoder, object pointers."""
