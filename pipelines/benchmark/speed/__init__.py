"""Speed, measured as ratios against a plain reference."""
