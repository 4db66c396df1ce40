"""Photos that look alike: nearest ones, near duplicates, and an index of a folder that is brought up to date."""
