"""Who is better: anything that says which of two responses is preferred, under one protocol and one record."""
