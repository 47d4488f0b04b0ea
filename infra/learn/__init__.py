"""What `grindstone learn` does: bootstrap rows, trainings side by side, versions and reports."""
