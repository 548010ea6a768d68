"""What everything else stands on: records, errors, settings, names, the run's books and the store."""
