"""The log: partition engine, event writer, ticker, archiver, topics and archives read back."""
