"""The command line. The top of the layers: it reads arguments, calls the packages below, and prints."""
