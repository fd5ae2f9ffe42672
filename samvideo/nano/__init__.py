"""The networks of the bundled tracker; their weights ship with the package and come from `samvideo train nano`."""
