"""The archiver: sealed windows of experience as Parquet files, each announced once."""
