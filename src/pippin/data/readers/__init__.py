"""One file per format. The file's name is the name that ``pippin read`` takes; its ``READER`` does the work."""
