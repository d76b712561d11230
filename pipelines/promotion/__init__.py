"""Which version becomes champion, and which goes back."""
