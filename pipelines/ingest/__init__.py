"""All that brings data in."""
