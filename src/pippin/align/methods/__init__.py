"""One file per alignment method; the file's name is the method's name."""
