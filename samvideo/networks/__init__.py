"""Networks that are not an encoder with the heads of SAM; a file each."""
