"""Meta-evaluation: judges judged by people's labels."""
