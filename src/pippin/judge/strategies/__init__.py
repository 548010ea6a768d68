"""One file per way of asking a model for a comparison. Its name stands after the last colon of a judge."""
