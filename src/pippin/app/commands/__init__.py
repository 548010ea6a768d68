"""One module per command. Heavy libraries are imported inside the functions, so that ``pippin --help`` is quick."""
