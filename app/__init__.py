"""Text and pixels to objects and back."""
