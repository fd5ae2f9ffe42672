"""Training of the networks that ship with the package; run by `samvideo train`."""
