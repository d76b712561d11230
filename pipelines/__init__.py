"""What happens in which order, one verb a file."""
