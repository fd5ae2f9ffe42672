"""The bundled tracker's networks: small enough to ship inside the package, trained by `samvideo train nano`."""
