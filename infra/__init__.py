"""What runs Grindstone: settings, command line, local services."""
